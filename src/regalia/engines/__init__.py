"""Engines turn a model's files in memory into text. They open no file and no socket."""
