"""Why an engine refuses a model or a prompt."""

from __future__ import annotations

from regalia.core.errors import Code


class EngineCode(Code):
    """Refusals around engines."""

    ENGINE_NEEDS_SAFETENSORS = (
        "The transformers engine runs weights where they lie, and only safetensors allows that.",
        "Seal the model in safetensors form, or use an engine that reads this format.",
    )
    ENGINE_FORMAT_MISSING = (
        "An engine reads one file in its own format, and the model has none, or several.",
        "Seal the model in the engine's format, or name the file in [engine.options].",
    )
    ENGINE_MODEL_UNSUPPORTED = (
        "The engine runs code that was installed and measured, never code that a model brings.",
        "Seal a model of a supported architecture, without remote code and without quantization.",
    )
    ENGINE_MODEL_INCOMPLETE = (
        "A model with missing or unknown tensors would answer with noise.",
        "Compare config.json and the safetensors files, then seal the model again.",
    )
    ENGINE_COPY_NEEDED = (
        "Weights of these types do not compute together, and rounding them would lose digits.",
        "Save the tensors that are named in the type that the architecture wants, then seal again.",
    )
    ENGINE_NEEDS_FAST_TOKENIZER = (
        "The engine reads one form of tokenizer, which needs no code of the model's own.",
        "Load the tokenizer with use_fast=True, save it (tokenizer.json), then seal again.",
    )
    ENGINE_TOKENIZER_INCONSISTENT = (
        "Files that give a token two numbers let the model read something else than was written.",
        "Load and save the tokenizer with the library, then seal the model again.",
    )
    ENGINE_MERGES_NO_ADAPTERS = (
        "This engine computes with the base's weights alone, so the adapter would be left out.",
        'Set [engine] name = "transformers" or "vllm", or merge it into its base and seal that.',
    )
    ENGINE_ADAPTER_UNSUPPORTED = (
        "An adapter that is merged in another way than it was trained would answer with noise.",
        "Use plain LoRA on linear layers, or merge the adapter into its base and seal that.",
    )
    ENGINE_ADAPTER_MISFIT = (
        "Matrices that do not fit the model were trained on another one, or are damaged.",
        "Seal the adapter for the model that it was trained on, as PEFT saved it.",
    )
    ENGINE_OPTION_UNKNOWN = (
        "An option that is silently ignored could be a misspelt protection.",
        "Correct the options in [engine.options].",
    )
    ENGINE_NOT_INSTALLED = (
        "The engine's libraries are an extra of this package, and one of them is missing.",
        'Install "regalia[NAME]" with the extra that docs/howto/engines.md names for this engine.',
    )
    ENGINE_MEMORY_UNSUITABLE = (
        "This engine reads weights through a mapping of its own of the model's memory.",
        'Set memory = "locked", and allow locked memory of twice the size of the model.',
    )
    ENGINE_MEMORY_SHORT = (
        "What a generation has read takes memory, and the machine gave no more of it.",
        "Send the request again when fewer others run, or ask for fewer tokens.",
    )
    PROMPT_TOO_LONG = (
        "The model reads a limited number of tokens.",
        "Shorten the prompt, or ask for fewer tokens.",
    )
    PROMPT_UNUSABLE = (
        "The model's own chat template or vocabulary does not accept this prompt.",
        "Change the messages' roles or contents.",
    )
