"""Names the extra of ``pip install 'regalia[…]'`` that an import needs.

Most installations need few of the optional packages, so they are imported on use. Without this, a
missing one would look like a bug.
"""

from __future__ import annotations

from regalia.core.errors import CoreCode, UsageError

# Extra by the name of a top-level module; a test holds this against pyproject.toml.
EXTRAS = {
    "jinja2": "transformers",
    "llama_cpp": "llama-cpp",
    "numpy": "transformers",
    "onnxruntime": "onnx",
    "tokenizers": "transformers",
    "torch": "transformers",
    "transformers": "transformers",
    "sevsnpmeasure": "measure",
    "lxml": "ingest",
    "signxml": "ingest",
    "psycopg": "postgres",
    "tpm2_pytss": "tpm",
    "botocore": "s3",
    "pkcs11": "pkcs11",
}


def missing_extra(error: ImportError) -> UsageError | None:
    """EXTRA_MISSING if a package of an extra is not installed; None if that is not the reason."""
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return None
    module = error.name.partition(".")[0]
    extra = EXTRAS.get(module)
    if extra is None:
        return None
    return UsageError(
        CoreCode.EXTRA_MISSING,
        f"{module} is not installed; it comes with: pip install 'regalia[{extra}]'",
    )
