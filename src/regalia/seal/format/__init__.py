"""Encodes and parses the parts of a sealed model. Spec: docs/spec/sealed-model.md."""
