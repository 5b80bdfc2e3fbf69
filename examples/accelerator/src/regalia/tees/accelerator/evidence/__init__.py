"""Verifier of the example accelerator. Spec: docs/spec/accelerator-appraisal.md.

``plugin`` is what the verifier sees; ``verify`` is the walk; ``chain`` is its longest step.
"""
