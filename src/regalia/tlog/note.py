r"""Signs, parses and verifies checkpoints: C2SP signed-note and tlog-checkpoint.

<origin>\n<size, decimal>\n<root, base64>\n\n— <origin> <base64(key hash ‖ signature)>\n

A log signs with Ed25519, or with Ed25519 and ML-DSA-65 together (``regalia.crypto.composite``).
C2SP has no number for the latter, so its type is 0xff with a name of ours, as signed-note says.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.core.codec import b64, unb64
from regalia.core.errors import IntegrityError, LogError, ParseError
from regalia.crypto.composite import ML_DSA_KEY_SIZE, ML_DSA_SIGNATURE_SIZE, WITH_ED25519
from regalia.crypto.sign import VerifyKey
from regalia.tlog.codes import TlogCode
from regalia.tlog.merkle import EMPTY_ROOT, HASH_SIZE, SIZE_MAX

if TYPE_CHECKING:
    from regalia.crypto.sign import SigningKey

NOTE_LIMIT = 64 * 1024  # bytes
SIGNATURES_MAX = 16
BODY_LINES = 3  # origin, size and root
EXTENSIONS_MAX = 16  # extension lines after the root
ORIGIN_MAX = 255  # bytes
ED25519 = b"\x01"  # signature type of C2SP signed-note
COMPOSITE = b"\xffregalia/ml-dsa-65-ed25519/v1"
KEY_HASH_SIZE = 4  # bytes; only a hint which key to try, never a proof of identity
SIGNATURE_SIZE = 64  # bytes, Ed25519
PUBLIC_KEY_SIZE = 32  # bytes, Ed25519
_SIGNATURE_PREFIX = "\N{EM DASH} "
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")  # no leading zeros, so that there is one spelling


def check_origin(origin: str) -> str:
    """Check and return the name of a log: no white space, no plus sign, 1 to 255 bytes.

    Raises:
        LogError: LOG_KEY_MALFORMED.
    """
    # "replace" only keeps this line from raising: isprintable() refuses surrogates below.
    size = len(origin.encode("utf-8", "replace"))
    if not 0 < size <= ORIGIN_MAX or "+" in origin or not origin.isprintable():
        raise LogError(TlogCode.LOG_KEY_MALFORMED, f"log origin {origin[:80]!r}")
    if any(char.isspace() for char in origin):
        raise LogError(TlogCode.LOG_KEY_MALFORMED, f"log origin {origin[:80]!r} has white space")
    return origin


@dataclass(frozen=True, slots=True)
class KeyKind:
    """A kind of keys that logs sign with; all its sizes are fixed.

    Attributes:
        type: what signed-note puts before the public key.
        prefix: DER of a SubjectPublicKeyInfo up to the public key.
        public_size: bytes of the public key.
        signature_size: bytes of a signature.
    """

    type: bytes
    prefix: bytes
    public_size: int
    signature_size: int


# RFC 8410 for the prefix of Ed25519.
_ED25519 = KeyKind(
    ED25519, bytes.fromhex("302a300506032b6570032100"), PUBLIC_KEY_SIZE, SIGNATURE_SIZE
)
_COMPOSITE = KeyKind(
    COMPOSITE,
    WITH_ED25519.prefix,
    ML_DSA_KEY_SIZE + PUBLIC_KEY_SIZE,
    ML_DSA_SIGNATURE_SIZE + SIGNATURE_SIZE,
)
_KINDS = (_ED25519, _COMPOSITE)
_LONGEST = max(len(kind.type) + kind.public_size for kind in _KINDS)


@dataclass(frozen=True, slots=True)
class LogKey:
    """A verifier key of a log: its origin and its public key."""

    origin: str
    public: bytes  # 32 bytes, or 1984 with ML-DSA-65
    kind: KeyKind = _ED25519

    @property
    def key_hash(self) -> bytes:
        """The first 4 bytes of SHA-256(origin ‖ 0x0A ‖ type ‖ public key)."""
        data = self.origin.encode() + b"\n" + self.kind.type + self.public
        return hashlib.sha256(data).digest()[:KEY_HASH_SIZE]

    @property
    def verify_key(self) -> VerifyKey:
        """The same key as SubjectPublicKeyInfo."""
        return VerifyKey(self.kind.prefix + self.public)

    def __str__(self) -> str:
        return f"{self.origin}+{self.key_hash.hex()}+{b64(self.kind.type + self.public)}"


def log_key(origin: str, key: VerifyKey) -> LogKey:
    """Build a log's verifier key from its name and public key.

    Args:
        origin: name of the log, as its checkpoints carry it.
        key: public key of the log.

    Raises:
        LogError: LOG_KEY_MALFORMED, the key is of another kind or the origin is not a valid name.
    """
    check_origin(origin)
    for kind in _KINDS:
        public = key.spki.removeprefix(kind.prefix)
        if key.spki.startswith(kind.prefix) and len(public) == kind.public_size:
            return LogKey(origin, public, kind)
    raise LogError(
        TlogCode.LOG_KEY_MALFORMED, "a log signs with Ed25519, alone or with ML-DSA-65, only"
    )


def verifier_key_text(origin: str, key: VerifyKey) -> str:
    """Encode a C2SP signed-note verifier key: ``<origin>+<hash>+<base64>``.

    Args:
        origin: name of the log.
        key: public key of the log.
    """
    return str(log_key(origin, key))


def parse_log_key(text: str) -> LogKey:
    """Parse a verifier key. Inverse of ``str(LogKey)``.

    Raises:
        LogError: LOG_KEY_MALFORMED, also if the hash is not that of name and key.
    """
    parts = text.split("+", 2)
    try:
        origin, _, encoded = parts
        raw = unb64(encoded, what="log key", limit=_LONGEST)
        key = _parsed(check_origin(origin), raw)
    except (ValueError, ParseError) as exc:
        raise LogError(TlogCode.LOG_KEY_MALFORMED, f"log key {text[:120]!r}") from exc
    if str(key) != text:
        raise LogError(TlogCode.LOG_KEY_MALFORMED, "the log key's hash is not that of its key")
    return key


def _parsed(origin: str, raw: bytes) -> LogKey:
    """A key of a known type and of its size. Raises ValueError or LogError."""
    for kind in _KINDS:
        if raw.startswith(kind.type):
            if len(raw) != len(kind.type) + kind.public_size:
                raise ValueError(len(raw))
            return LogKey(origin, raw[len(kind.type) :], kind)
    shown = f"type {raw[0]}, want 1 (Ed25519), or 255 with ML-DSA-65" if raw else "empty"
    raise LogError(TlogCode.LOG_KEY_MALFORMED, f"log key: {shown}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A log's size and root. It is verified only if ``verify_checkpoint`` returned it."""

    origin: str
    size: int
    root: bytes  # 32 bytes
    extensions: tuple[str, ...] = ()

    def body(self) -> str:
        """The text that is signed."""
        lines = [self.origin, str(self.size), b64(self.root), *self.extensions]
        return "".join(f"{line}\n" for line in lines)


def sign_checkpoint(checkpoint: Checkpoint, key: SigningKey) -> str:
    """Sign a checkpoint, and return it as a signed note.

    Args:
        checkpoint: size and root of the log.
        key: signing key of the log.
    """
    mine = log_key(checkpoint.origin, key.verify_key)
    body = checkpoint.body()
    signature = b64(mine.key_hash + key.sign(body.encode()))
    return f"{body}\n{_SIGNATURE_PREFIX}{mine.origin} {signature}\n"


def verify_checkpoint(note: str, key: LogKey) -> Checkpoint:
    """Parse a note, and verify the log's signature on it.

    The note may carry further signatures, of witnesses, but only one of the log itself.

    Args:
        note: signed note, untrusted.
        key: verifier key of the log, pinned.

    Raises:
        LogError: CHECKPOINT_INVALID.
    """
    body, signatures = _split_note(note)
    mine = [sig for name, key_hash, sig in signatures if (name, key_hash) == _identity(key)]
    if len(mine) != 1 or len(mine[0]) != key.kind.signature_size:
        raise _invalid(f"{len(mine)} signatures by {key.origin}+{key.key_hash.hex()}, want one")
    try:
        key.verify_key.verify(mine[0], body.encode())
    except (IntegrityError, ParseError) as exc:
        raise _invalid(f"the signature by {key.origin} does not hold") from exc
    checkpoint = _parse_body(body)
    # The name on the signature line is not signed, so compare the one in the signed text.
    if checkpoint.origin != key.origin:
        raise _invalid(f"it is for {checkpoint.origin[:80]!r}, signed by {key.origin!r}")
    return checkpoint


def _identity(key: LogKey) -> tuple[str, bytes]:
    return key.origin, key.key_hash


def _invalid(why: str) -> LogError:
    return LogError(TlogCode.CHECKPOINT_INVALID, f"checkpoint: {why}")


def _split_note(note: str) -> tuple[str, list[tuple[str, bytes, bytes]]]:
    """Split a note into the signed text, and (name, key hash, signature) of every line."""
    # Whatever carried the note has a limit of its own, so this encodes a few MiB at most.
    if len(note.encode("utf-8", "surrogatepass")) > NOTE_LIMIT:
        raise _invalid(f"more than {NOTE_LIMIT} bytes")
    # C2SP signed-note: a note is UTF-8 and contains no ASCII control characters but newlines.
    if any(char < " " and char != "\n" for char in note) or not _is_utf8(note):
        raise _invalid("control characters")
    # The last blank line separates text and signatures, as the text itself may contain some.
    text, separator, tail = note.rpartition("\n\n")
    if not separator or not tail.endswith("\n"):
        raise _invalid("no signatures")
    lines = tail.removesuffix("\n").split("\n")
    if len(lines) > SIGNATURES_MAX:
        raise _invalid(f"{len(lines)} signatures, at most {SIGNATURES_MAX}")
    return text + "\n", [_parse_signature(line) for line in lines]


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can spell
        return False
    return True


def _parse_signature(line: str) -> tuple[str, bytes, bytes]:
    name, space, encoded = line.removeprefix(_SIGNATURE_PREFIX).partition(" ")
    if not line.startswith(_SIGNATURE_PREFIX) or not space or not name:
        raise _invalid("a malformed signature line")
    try:
        raw = unb64(encoded, what="note signature", limit=NOTE_LIMIT)
    except ParseError as exc:
        raise _invalid("a malformed signature") from exc
    if len(raw) <= KEY_HASH_SIZE:
        raise _invalid("a malformed signature")
    return name, raw[:KEY_HASH_SIZE], raw[KEY_HASH_SIZE:]


def _parse_body(body: str) -> Checkpoint:
    lines = body.removesuffix("\n").split("\n")
    if not BODY_LINES <= len(lines) <= BODY_LINES + EXTENSIONS_MAX or not all(lines):
        raise _invalid("malformed text")
    origin, size_text, root_text, *extensions = lines
    if not _DECIMAL.fullmatch(size_text) or int(size_text) > SIZE_MAX:
        raise _invalid(f"size {size_text[:40]!r}")
    try:
        root = unb64(root_text, what="root", size=HASH_SIZE)
    except ParseError as exc:
        raise _invalid("malformed root") from exc
    size = int(size_text)
    if size == 0 and root != EMPTY_ROOT:
        raise _invalid("an empty log has one root only")
    return Checkpoint(origin, size, root, tuple(extensions))
