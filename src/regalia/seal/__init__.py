"""From a model directory to a sealed model and back. Spec: docs/spec/sealed-model.md.

    scan → plan → write            the owner's side, streaming
    manifest → reader → loaded     the runtime's side, into locked memory
    check, recover                 without a key; and into files again

Opens no socket and reads no clock. Key stores, stores of ciphertext and memory are arguments.
"""
