"""Why an engine refuses a model or a prompt."""

from __future__ import annotations

from regalia.core.errors import Code


class EngineCode(Code):
    """Refusals around engines."""

    ENGINE_NEEDS_SAFETENSORS = (
        "The transformers engine runs weights where they lie, and only safetensors allows that.",
        "Seal the model in safetensors form, or use an engine that reads this format.",
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
        "Converting or aligning weights would make a second copy outside the locked mapping.",
        "Save the model with one dtype for all weights, then seal it again.",
    )
    ENGINE_OPTION_UNKNOWN = (
        "An option that is silently ignored could be a misspelt protection.",
        "Correct the options in [engine.options].",
    )
    PROMPT_TOO_LONG = (
        "The model reads a limited number of tokens.",
        "Shorten the prompt, or ask for fewer tokens.",
    )
    PROMPT_UNUSABLE = (
        "The model's own chat template or vocabulary does not accept this prompt.",
        "Change the messages' roles or contents.",
    )
