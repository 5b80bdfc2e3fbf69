"""Write the vectors of log keys, checkpoints and consistency proofs.

Usage: ``python scripts/make_proof_vectors.py [--check]``.

Spec: docs/spec/release-record.md. The trees are over the entries "0", "1", "2" and so on, as those
of ``roots_of_counters`` in ``log.json`` beside these files.
"""

from __future__ import annotations

import hashlib
import sys
from typing import Any

from vector_files import VECTORS, as_json, fixed, short, signing_key, write_or_compare

from regalia.core.codec import b64, unb64
from regalia.tlog.merkle import EMPTY_ROOT, Frontier, consistency_path, leaf_hash
from regalia.tlog.note import NOTE_LIMIT, Checkpoint, log_key, sign_checkpoint

FOLDER = VECTORS / "tlog"
ORIGIN = "log.example/regalia-vectors"
PAIRS = (
    *((0, new) for new in (0, 1, 5)),
    *((1, new) for new in (1, 2, 3, 8)),
    *((2, 3), (3, 4), (3, 7), (4, 7), (6, 7), (6, 8), (7, 8), (7, 9), (8, 9), (8, 8)),
    *((5, 257), (255, 256), (256, 257), (128, 257)),
)
LARGEST = max(new for _, new in PAIRS)


class Counters:
    """The log of the entries "0", "1", "2" and so on."""

    def __init__(self) -> None:
        self.hashes: dict[tuple[int, int], bytes] = {}
        self.roots = [EMPTY_ROOT]
        frontier = Frontier()
        for number in range(LARGEST):
            self.hashes.update(frontier.append(leaf_hash(str(number).encode())))
            self.roots.append(frontier.root())

    def proof(self, old: int, new: int) -> dict[str, Any]:
        """The proof that the log of ``old`` entries is a prefix of that of ``new``."""
        return {
            "old": old,
            "old_root": self.roots[old].hex(),
            "new": new,
            "new_root": self.roots[new].hex(),
            "path": [b64(item) for item in consistency_path(old, new, self.hashes.__getitem__)],
        }


def consistency() -> dict[str, Any]:
    """Proofs that hold, and proofs with one defect; each of these is LOG_FORKED."""
    log = Counters()
    good, short, power = log.proof(5, 257), log.proof(3, 4), log.proof(4, 7)
    path = good["path"]
    other = b64(fixed("another hash"))
    return {
        "accepted": [log.proof(old, new) for old, new in PAIRS],
        "refused": {
            "old_root_differs": good | {"old_root": fixed("another root").hex()},
            "new_root_differs": good | {"new_root": fixed("another root").hex()},
            "roots_exchanged": good | {"old_root": good["new_root"], "new_root": good["old_root"]},
            "first_hash_differs": good | {"path": [other, *path[1:]]},
            "last_hash_differs": good | {"path": [*path[:-1], other]},
            "hashes_swapped": good | {"path": [path[1], path[0], *path[2:]]},
            "path_cut": good | {"path": path[:-1]},
            "path_cut_at_the_front": good | {"path": path[1:]},
            "path_appended": good | {"path": [*path, path[-1]]},
            "path_empty": good | {"path": []},
            "short_path_cut": short | {"path": short["path"][:-1]},
            "short_path_appended": short | {"path": [*short["path"], other]},
            # The old root of a power of two is left out of the path, and does not belong there.
            "old_root_in_the_path": power
            | {"path": [b64(bytes.fromhex(power["old_root"])), *power["path"]]},
            "other_sizes": good | {"old": 6},
            "old_larger_than_new": good | {"old": 258},
            "old_negative": good | {"old": -1},
            "new_too_large": good | {"new": 2**63},
            "old_zero_with_a_path": log.proof(0, 5) | {"path": [other]},
            "old_zero_with_another_root": log.proof(0, 5) | {"old_root": bytes(32).hex()},
            "same_size_with_a_path": log.proof(8, 8) | {"path": [other]},
            "same_size_with_another_root": log.proof(8, 8) | {"new_root": log.roots[7].hex()},
        },
    }


def log_keys() -> dict[str, Any]:
    """Verifier keys, and those that are LOG_KEY_MALFORMED."""
    key = signing_key("log").verify_key
    good = log_key(ORIGIN, key)
    _, key_hash, encoded = str(good).split("+", 2)
    raw = unb64(encoded, what="key")
    return {
        "seed": fixed("log").hex(),
        "accepted": [
            {"text": str(log_key(origin, key)), "origin": origin, "public": good.public.hex()}
            for origin in (ORIGIN, "x", "é/日本", "o" * 255)
        ],
        "refused": {
            "hash_of_another": f"{ORIGIN}+{'0' * 8}+{encoded}",
            "hash_upper_case": f"{ORIGIN}+{key_hash.upper()}+{encoded}",
            "origin_changed": f"other.example+{key_hash}+{encoded}",
            "no_key": f"{ORIGIN}+{key_hash}",
            "type_unknown": f"{ORIGIN}+{key_hash}+{b64(bytes([2]) + raw[1:])}",
            "key_short": f"{ORIGIN}+{key_hash}+{b64(raw[:-1])}",
            "newline_at_the_end": f"{good}\n",
            "origin_empty": with_origin("", raw),
            "origin_with_space": with_origin("log example", raw),
            "origin_with_no_break_space": with_origin("log\u00a0example", raw),
            "origin_with_newline": with_origin("log\nexample", raw),
            "origin_with_zero_width_space": with_origin("log\u200bexample", raw),
            "origin_256_bytes": with_origin("é" * 128, raw),
        },
    }


def with_origin(origin: str, raw: bytes) -> str:
    """A verifier key whose hash fits, whatever its name.

    Args:
        origin: the name.
        raw: type and public key, 33 bytes.
    """
    digest = hashlib.sha256(origin.encode() + b"\n" + raw).hexdigest()
    return f"{origin}+{digest[:8]}+{b64(raw)}"


def checkpoints() -> dict[str, Any]:
    """Signed notes that hold, and notes that are CHECKPOINT_INVALID."""
    key = signing_key("log")
    root = Counters().roots[5]
    good = sign_checkpoint(Checkpoint(ORIGIN, 5, root), key)
    text, signature = good.split("\n\n")
    witness = f"\N{EM DASH} witness.example/w {b64(fixed('witness', 4 + 64))}\n"

    def signed(body: str, covered: str | None = None) -> str:
        """A note of any text, in which the log signed that text or another one."""
        signature = key.sign((body if covered is None else covered).encode())
        line = b64(log_key(ORIGIN, key.verify_key).key_hash + signature)
        return f"{body}\n\N{EM DASH} {ORIGIN} {line}\n"

    def other_line(size: int, name: str = "witness.example/w") -> str:
        """A signature line of somebody else, with so many bytes."""
        return f"\N{EM DASH} {name} {b64(fixed('witness', size))}\n"

    def of_size(size: int) -> str:
        """A note of so many bytes, which the log signed."""
        empty = len(sign_checkpoint(Checkpoint(ORIGIN, 5, root, ("",)), key).encode())
        return sign_checkpoint(Checkpoint(ORIGIN, 5, root, ("x" * (size - empty),)), key)

    mine = log_key(ORIGIN, key.verify_key)
    made = key.sign(f"{text}\n".encode())

    def own_line(raw: bytes) -> str:
        """A note in which the log's line has these bytes behind the hash."""
        return f"{text}\n\n\N{EM DASH} {ORIGIN} {b64(mine.key_hash + raw)}\n"

    name, size, root_text = text.split("\n")
    extended = sign_checkpoint(Checkpoint(ORIGIN, 5, root, ("one", "two é")), key)
    return {
        "log_key": str(log_key(ORIGIN, key.verify_key)),
        "accepted": {
            "plain": good,
            "empty_log": sign_checkpoint(Checkpoint(ORIGIN, 0, EMPTY_ROOT), key),
            "largest": sign_checkpoint(Checkpoint(ORIGIN, 2**63 - 1, root), key),
            "more_lines_of_text": extended,
            "sixteen_more_lines": sign_checkpoint(
                Checkpoint(ORIGIN, 5, root, tuple(map(str, range(16)))), key
            ),
            "witness_behind": good + witness,
            "witness_before": f"{text}\n\n{witness}{signature}",
            "sixteen_signatures": good + witness * 15,
            # Neither of these is a line of the log, which has this name and this hash.
            "name_of_the_log_with_another_hash": good + other_line(4 + 64, ORIGIN),
            "another_name_with_the_hash_of_the_log": good
            + f"\N{EM DASH} witness.example/w {b64(mine.key_hash + fixed('witness', 64))}\n",
            "witness_of_5_bytes": good + other_line(5),
            "65536_bytes": short(of_size(NOTE_LIMIT)),
        },
        # The bytes that the signature of "more_lines_of_text" covers.
        "signed_text": Checkpoint(ORIGIN, 5, root, ("one", "two é")).body(),
        "refused": {
            "last_newline_not_signed": signed(f"{text}\n", text),
            "empty_line_signed_too": signed(f"{text}\n", f"{text}\n\n"),
            "first_three_lines_alone_signed": signed(f"{text}\none\n", f"{text}\n"),
            "line_added": good.replace("\n\n", "\nx\n\n"),
            "line_dropped": extended.replace("\none", ""),
            "seventeen_more_lines": sign_checkpoint(
                Checkpoint(ORIGIN, 5, root, tuple(map(str, range(17)))), key
            ),
            "empty_line_in_the_text": signed(f"{name}\n{size}\n{root_text}\n\nx\n"),
            "no_root": signed(f"{name}\n{size}\n"),
            "size_with_plus": signed(f"{name}\n+5\n{root_text}\n"),
            "size_with_leading_zero": signed(f"{name}\n05\n{root_text}\n"),
            "size_empty": signed(f"{name}\n\n{root_text}\n"),
            "size_2_63": signed(f"{name}\n{2**63}\n{root_text}\n"),
            "root_short": signed(f"{name}\n{size}\n{b64(root[:-1])}\n"),
            "root_without_padding": signed(f"{name}\n{size}\n{root_text.rstrip('=')}\n"),
            "empty_log_with_another_root": signed(f"{name}\n0\n{root_text}\n"),
            "another_origin_signed": signed(f"other.example\n{size}\n{root_text}\n"),
            "witness_alone": f"{text}\n\n{witness}",
            "seventeen_signatures": good + witness * 16,
            "signature_twice": good + signature,
            "hyphen_for_dash": good.replace("\N{EM DASH}", "-"),
            "signature_line_cut": good.removesuffix("\n"),
            "65537_bytes": short(of_size(NOTE_LIMIT + 1)),
            "log_line_with_another_hash_alone": f"{text}\n\n{other_line(4 + 64, ORIGIN)}",
            "log_line_of_63_bytes": own_line(made[:-1]),
            "log_line_of_65_bytes": own_line(made + b"\0"),
            "log_line_without_signature": own_line(b""),
            "witness_of_4_bytes": good + other_line(4),
            "witness_without_bytes": good + "\N{EM DASH} witness.example/w \n",
            "witness_without_space": good + "\N{EM DASH} witness.example/w\n",
            "witness_without_name": good + other_line(4 + 64, ""),
            "witness_without_dash": good + other_line(4 + 64).removeprefix("\N{EM DASH} "),
            "witness_with_hyphen": good + other_line(4 + 64).replace("\N{EM DASH}", "-"),
            "witness_base64_without_padding": good + other_line(5).replace("=", ""),
            "witness_base64_unused_bits": good + "\N{EM DASH} witness.example/w AAAAAAB=\n",
            "witness_line_of_anything": good + "x\n",
            "empty_line_behind": good + "\n",
            "tab": signed(f"{name}\n{size}\n{root_text}\na\tb\n"),
        },
    }


def files() -> dict[str, bytes]:
    """Contents by name."""
    return {
        "checkpoints.json": as_json(checkpoints()),
        "consistency.json": as_json(consistency()),
        "log-keys.json": as_json(log_keys()),
    }


if __name__ == "__main__":
    sys.exit(write_or_compare(FOLDER, files()))
