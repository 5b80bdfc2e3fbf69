"""Embeddings on onnxruntime, with weights in locked memory."""

from regalia.engines.onnx.builder import build_engine

__all__ = ["build_engine"]
