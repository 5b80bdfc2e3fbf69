"""Inference engines, which run a model from memory. They open no file and no socket."""
