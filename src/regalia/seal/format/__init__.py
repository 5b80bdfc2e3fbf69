"""The sealed model as bytes. Spec: docs/spec/sealed-model.md."""
