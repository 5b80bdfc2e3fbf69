"""Language models in GGUF on llama.cpp, with weights in locked memory."""

from regalia.engines.llama_cpp.builder import build_engine

__all__ = ["build_engine"]
