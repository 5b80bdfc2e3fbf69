"""Seals model directories, and loads sealed models. Spec: docs/spec/sealed-model.md.

    scan → plan → write          the owner seals a model, streaming
    manifest → reader → load     the runtime decrypts it into locked memory
    check                        verifies all ciphertext without a key
    recover                      the owner decrypts a model into files again

The package opens no socket and reads no clock. Key stores, stores of ciphertext and memory are
arguments.
"""
