"""Write the vectors of a sealed model's index: python scripts/make_index_vectors.py [--check].

Spec: docs/spec/sealed-model.md, "Index" and "Paths". An index is encrypted in a sealed model, so a
reader's rules for it can be seen here only.
"""

from __future__ import annotations

import sys
from typing import Any

from vector_files import VECTORS, as_json, write_or_compare

from regalia.core.codec import canonical_json
from regalia.core.types import Digest
from regalia.seal.format.index import FORMAT, parse_index

FOLDER = VECTORS / "index"
PADDING = 65_536
EMPTY = str(Digest.of(b""))
File = dict[str, Any]

ACCEPTED_PATHS = (
    ["a"],
    ["a/b/c", "a/b/d", "a/e"],
    ["..a", "a..", "...", ".hidden", "-", "~", "CON", "a b", " ", "a:b", "*"],
    ["日本/語.bin", "ü", "𝄞", "\u200b", "\ufeff", "\u00a0", "\ue000"],
    ["x" * 255],
    ["/".join(["x" * 40] * 25)],  # 1,024 bytes
    ["/".join(["a"] * 32)],
    # Not the same place: nothing but NFC and full case folding brings spellings together.
    ["ﬁ1", "fi2", "Ⅳ", "IV", "①", "1"],
)
REFUSED_PATHS = {
    "empty": [""],
    "absolute": ["/a"],
    "ends_with_slash": ["a/"],
    "empty_component": ["a//b"],
    "dot": ["./a"],
    "dot_at_end": ["a/."],
    "dot_dot": ["../a"],
    "dot_dot_inside": ["a/../b"],
    "dot_dot_alone": [".."],
    "backslash": ["a\\b"],
    "nul": ["a\0"],
    "newline": ["a\n"],
    "escape": ["a\x1b[31m"],
    "delete": ["a\x7f"],
    "c1_control": ["a\x85"],
    "c1_last": ["a\x9f"],
    "arabic_letter_mark": ["a\u061c"],
    "left_to_right_mark": ["a\u200e"],
    "right_to_left_mark": ["a\u200f"],
    "bidi_embedding": ["a\u202ab"],
    "bidi_override": ["a\u202egpj.exe"],
    "bidi_isolate": ["a\u2066b"],
    "bidi_isolate_end": ["a\u2069b"],
    "component_256_bytes": ["x" * 256],
    "component_256_bytes_of_utf8": ["é" * 128],
    "path_1025_bytes": ["/".join(["x" * 41, *["x" * 40] * 24])],
    "depth_33": ["/".join(["a"] * 33)],
}
COLLISIONS = {
    "case": ["README", "readme"],
    "case_of_directory": ["A/x", "a/y"],
    "full_folding": ["STRASSE", "straße"],
    "kelvin": ["k", "\u212a"],
    "final_sigma": ["Σ", "ς"],
    "nfc_and_nfd": ["e\u0301", "\u00e9"],
    "nfc_after_folding": ["\u0390", "\u03aa\u0301"],
    "ligature": ["fi", "ﬁ"],
    "file_and_directory": ["a", "a/b"],
    "file_and_directory_by_case": ["A", "a/b"],
}


def ordered(paths: list[str]) -> list[str]:
    """In the order that an index demands."""
    return sorted(paths, key=str.encode)


def file(path: str, offset: int, length: int = 0) -> File:
    """One entry."""
    return {"path": path, "offset": offset, "length": length, "digest": EMPTY}


def index(*files: File, size: int = 0, **other: Any) -> str:  # noqa: ANN401 - any member
    """An index's JSON.

    Args:
        files: its entries.
        size: the stream's.
        other: members in place of the usual ones.
    """
    members = {"format": FORMAT, "stream_size": size, "files": list(files)} | other
    return canonical_json(members).decode()


def plaintext(case: dict[str, Any]) -> bytes:
    """The bytes that a case stands for; see docs/spec/sealed-model.md, "Test vectors"."""
    body = case["json"].encode()
    length = case.get("length", len(body))
    whole = length.to_bytes(8, "big") + body
    size = case.get("size", -(-len(whole) // PADDING) * PADDING)
    data = bytearray(whole.ljust(size, b"\0")[:size])
    if case.get("last_byte"):
        data[-1] = case["last_byte"]
    return bytes(data)


def accepted() -> dict[str, dict[str, Any]]:
    """Indexes that a reader takes."""
    # Names as long as they may be, so that few of them need a second block of padding.
    names = [f"{n:03}/" + "/".join(["x" * 250] * 4) for n in range(60)]
    return {
        "one_empty_file": {"json": index(file("a", 0))},
        "first_file_at_63": {"json": index(file("a", 63, 1), size=64)},
        "gap_of_63": {"json": index(file("a", 0, 1), file("b", 64, 1), size=65)},
        "no_gaps": {"json": index(file("a", 0, 1), file("b", 1, 1), file("c", 2), size=2)},
        "order_of_bytes": {"json": index(file("B", 0), file("a", 0), file("é", 0))},
        "two_blocks": {"json": index(*(file(name, 0) for name in names))},
    }


def refused() -> dict[str, list[Any]]:
    """By name: the code, and an index with exactly that defect."""
    good = index(file("a", 0))
    return {
        "first_file_at_64": ["MALFORMED", {"json": index(file("a", 64, 1), size=65)}],
        "gap_of_64": ["MALFORMED", {"json": index(file("a", 0, 1), file("b", 65, 1), size=66)}],
        "overlap": ["MALFORMED", {"json": index(file("a", 0, 2), file("b", 1, 1), size=2)}],
        "offset_negative": ["MALFORMED", {"json": index(file("a", -1, 1), size=0)}],
        "length_negative": ["MALFORMED", {"json": index(file("a", 1, -1), size=0)}],
        "stream_longer": ["MALFORMED", {"json": index(file("a", 0, 1), size=2)}],
        "stream_shorter": ["MALFORMED", {"json": index(file("a", 0, 1), size=0)}],
        "out_of_order": ["MALFORMED", {"json": index(file("b", 0), file("a", 0))}],
        "order_of_capitals": ["MALFORMED", {"json": index(file("a", 0), file("B", 0))}],
        "path_twice": ["MALFORMED", {"json": index(file("a", 0), file("a", 0))}],
        "no_files": ["TOO_LARGE", {"json": index()}],
        "format_unknown": ["MALFORMED", {"json": index(file("a", 0), format="regalia/index/v1")}],
        "member_unknown": ["MALFORMED", {"json": index(file("a", 0), extra=1)}],
        "member_of_file_unknown": ["MALFORMED", {"json": index(file("a", 0) | {"mode": 0o644})}],
        "digest_without_prefix": [
            "MALFORMED",
            {"json": index(file("a", 0) | {"digest": "0" * 64})},
        ],
        "white_space": ["MALFORMED", {"json": good.replace(",", ", ", 1)}],
        "length_too_long": ["MALFORMED", {"json": good, "length": len(good) + 1}],
        "length_too_short": ["MALFORMED", {"json": good, "length": len(good) - 1}],
        "length_beyond_the_end": ["MALFORMED", {"json": good, "length": 2**63}],
        "padding_not_zero": ["MALFORMED", {"json": good, "last_byte": 1}],
        "no_padding": ["MALFORMED", {"json": good, "size": 8 + len(good)}],
        "a_block_too_many": ["MALFORMED", {"json": good, "size": 2 * PADDING}],
        "seven_bytes": ["MALFORMED", {"json": good, "size": 7}],
        "nothing": ["MALFORMED", {"json": good, "size": 0}],
    }


def files() -> dict[str, bytes]:
    """Contents by name."""
    for case in accepted().values():
        parse_index(plaintext(case))  # a vector that is refused here would be a bug of this script
    return {
        "indexes.json": as_json({"accepted": accepted(), "refused": refused()}),
        "paths.json": as_json(
            {
                "accepted": [ordered(paths) for paths in ACCEPTED_PATHS],
                "PATH_REFUSED": REFUSED_PATHS,
                "PATHS_COLLIDE": {name: ordered(paths) for name, paths in COLLISIONS.items()},
            }
        ),
    }


if __name__ == "__main__":
    sys.exit(write_or_compare(FOLDER, files()))
