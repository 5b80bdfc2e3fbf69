"""Writes GGUF files, by the letter of the format and not by the parser's own tables."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

U32, F32, BOOL, TEXT, ARRAY = 4, 6, 7, 8, 9
F32_TENSOR, Q4_1_TENSOR = 0, 3


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def value(kind: int, data: bytes) -> bytes:
    return struct.pack("<I", kind) + data


def text_value(content: str | bytes) -> bytes:
    return value(TEXT, text(content))


def number(content: int) -> bytes:
    return value(U32, struct.pack("<I", content))


def array(kind: int, count: int, items: bytes) -> bytes:
    return value(ARRAY, struct.pack("<IQ", kind, count) + items)


@dataclass
class TensorInfo:
    name: str | bytes = "token_embd.weight"
    shape: tuple[int, ...] = (32, 2)
    kind: int = F32_TENSOR
    offset: int = 0

    def written(self) -> bytes:
        sizes = b"".join(struct.pack("<Q", item) for item in self.shape)
        return (
            text(self.name)
            + struct.pack("<I", len(self.shape))
            + sizes
            + struct.pack("<IQ", self.kind, self.offset)
        )


@dataclass
class Gguf:
    """A file of two tensors, one of them quantized: 256 and 40 bytes."""

    magic: bytes = b"GGUF"
    version: int = 3
    values: list[tuple[str | bytes, bytes]] = field(
        default_factory=lambda: [
            ("general.architecture", text_value("llama")),
            ("general.alignment", number(32)),
            ("tokenizer.ggml.tokens", array(TEXT, 2, text("a") + text("b"))),
            ("tokenizer.ggml.scores", array(F32, 2, bytes(8))),
            ("tokenizer.chat_template", text_value("{{ messages[0].content }}")),
            ("llama.rope.finetuned", value(BOOL, b"\1")),
        ]
    )
    tensors: list[TensorInfo] = field(
        default_factory=lambda: [
            TensorInfo(),
            TensorInfo("output.weight", (64,), Q4_1_TENSOR, 256),
        ]
    )
    counts: tuple[int, int] | None = None
    alignment: int = 32
    data: bytes = bytes(range(256)) + bytes(40)

    def written(self) -> bytes:
        tensors, values = self.counts or (len(self.tensors), len(self.values))
        head = self.magic + struct.pack("<IQQ", self.version, tensors, values)
        head += b"".join(text(key) + content for key, content in self.values)
        head += b"".join(item.written() for item in self.tensors)
        return head + bytes(-len(head) % self.alignment) + self.data
