"""What the tests of the private socket between a runtime and its workers have in common."""

from __future__ import annotations

from regalia.runtime.hosted.frames import KEY_SIZE, Grant, Loaded

KEY = bytes(range(100, 100 + KEY_SIZE))
GRANT = Grant(
    store="sealed", folder="/", cache="", cache_bytes=0, peers=[], owner_key="key:0",
    model_id="model:0", manifest="x", threads=1, left_s=60.0,
)  # fmt: skip
LOADED = Loaded(tensors=1, size=2, read=3, seconds=0.5)


def framed(data: bytes) -> bytes:
    """The bytes of a frame that holds these."""
    return len(data).to_bytes(4, "big") + data
