"""Merges LoRA adapters, as PEFT saves them, into the weights of their base.

settings   adapter_config.json -> LoraSettings: scales, ranks, and refusals by name
tensors    adapter_model.safetensors -> LoraTensors: pairs of matrices, and whole tensors
fit        both against the base's names and shapes -> Change
products   the arithmetic, on a whole weight or on a part of one
merge      all of it on a model of torch's, in place
"""
