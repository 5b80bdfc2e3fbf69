"""Merges LoRA adapters, as PEFT saves them, into the weights of their base.

settings   adapter_config.json -> LoraSettings: scales, ranks, and refusals by name
tensors    adapter_model.safetensors -> LoraTensors: pairs of matrices, and whole tensors
merge      the arithmetic on torch modules, in place
"""
