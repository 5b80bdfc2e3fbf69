"""Opens model keys that a key store has wrapped to a runtime's attested RSA key (RFC 8017).

The broker has sealed them once more with HPKE, so whoever records the answer has to break both. RSA
alone would fall to a quantum computer; X-Wing around it does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP

from regalia.core.errors import Code, IntegrityError
from regalia.core.secret import SecretBytes

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey


class KeyWrappingCode(Code):
    """Refusals around keys that a key store has wrapped."""

    KEY_WRAPPING_UNKNOWN = (
        "This runtime cannot open what the broker's key store has made.",
        "Use versions of runtime and broker that belong together.",
    )
    KEY_WRAPPING_FAILED = (
        "The key was wrapped to another runtime, or changed on the way.",
        "Ask again. If that does not help, look at the broker's key store.",
    )


# Neither use of a hash in OAEP needs it to resist collisions, so SHA-1 is as good here (RFC 8017,
# appendix A.2.1, and NIST SP 800-131A). Tokens such as SoftHSM 2.6 can do nothing else.
_HASHES = {"rsa-oaep-sha1": hashes.SHA1(), "rsa-oaep-sha256": hashes.SHA256()}  # noqa: S303


def _padding(wrapping: str) -> OAEP:
    digest = _HASHES.get(wrapping)
    if digest is None:
        raise IntegrityError(
            KeyWrappingCode.KEY_WRAPPING_UNKNOWN, f"key wrapping {wrapping[:40]!r}"
        )
    return OAEP(mgf=MGF1(digest), algorithm=digest, label=None)


def open_wrapped(wrapping: str, wrapped: SecretBytes, private: RSAPrivateKey) -> SecretBytes:
    """Unwrap a key.

    Args:
        wrapping: name of the wrapping, as the release record has it.
        wrapped: as long as the key's modulus; the caller closes it.
        private: of the runtime.

    Returns:
        The key. The library hands it out as ``bytes`` once; that copy cannot be wiped.

    Raises:
        IntegrityError: KEY_WRAPPING_UNKNOWN or KEY_WRAPPING_FAILED.
    """
    padding = _padding(wrapping)
    try:
        return SecretBytes.copy_of(private.decrypt(bytes(wrapped.view()), padding))
    except ValueError as exc:
        raise IntegrityError(
            KeyWrappingCode.KEY_WRAPPING_FAILED, f"{wrapping}: {len(wrapped)} bytes do not open"
        ) from exc


def wrap_to(wrapping: str, key: SecretBytes, public: RSAPublicKey) -> bytes:
    """Wrap a key in software, as tokens do inside; for key stores that examine themselves.

    Args:
        wrapping: name of the wrapping.
        key: to be wrapped; the caller closes it.
        public: of the recipient.

    Raises:
        IntegrityError: KEY_WRAPPING_UNKNOWN.
    """
    return public.encrypt(bytes(key.view()), _padding(wrapping))
