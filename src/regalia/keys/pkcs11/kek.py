"""KEKs in a token: making, finding and checking them, and deriving keys from them.

A KEK does one thing: the token derives other keys from it. It encrypts, decrypts, wraps and unwraps
nothing itself, so no message to the token can use it for anything else.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from pkcs11.constants import Attribute, MechanismFlag, ObjectClass
from pkcs11.mechanisms import KeyType, Mechanism

from regalia.core.codec import lp
from regalia.core.errors import KeyAccessError
from regalia.keys.base import KekId
from regalia.keys.codes import KeysCode
from regalia.keys.pkcs11.codes import Pkcs11Code

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pkcs11.types import DeriveMixin, Object, SecretKey, Session, WrapMixin

KEK_BITS = 256
ID_DOMAIN = b"regalia/pkcs11-kek-id/v1"

_FORBIDDEN_USES = (
    Attribute.ENCRYPT,
    Attribute.DECRYPT,
    Attribute.SIGN,
    Attribute.VERIFY,
    Attribute.WRAP,
    Attribute.UNWRAP,
)
_NO_USE: dict[Attribute, Any] = dict.fromkeys(_FORBIDDEN_USES, False)
_REQUIRED: dict[Attribute, Any] = {
    Attribute.TOKEN: True,
    Attribute.PRIVATE: True,
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    Attribute.DERIVE: True,
    # What the token itself says of the past: it made the key, and the key could never be read.
    Attribute.LOCAL: True,
    Attribute.ALWAYS_SENSITIVE: True,
    Attribute.NEVER_EXTRACTABLE: True,
    Attribute.KEY_TYPE: KeyType.AES,
    Attribute.VALUE_LEN: KEK_BITS // 8,
    **_NO_USE,
}
_SESSION_KEY: dict[Attribute, Any] = {
    Attribute.TOKEN: False,
    Attribute.PRIVATE: True,
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
}
# A key that only ever gets wrapped. It has no use in itself.
WRAPPED_KEY: dict[Attribute, Any] = _SESSION_KEY | _NO_USE | {Attribute.EXTRACTABLE: True}


def make_kek(session: Session, name: str) -> SecretKey:
    """Generate a KEK in the token, and check what the token made.

    Args:
        session: one that can change the token.
        name: the KEK's label.

    Raises:
        KeyAccessError: KEK_EXISTS, or KEK_UNPROTECTED: the token ignored what was asked of it.
        PKCS11Error: the token refuses.
    """
    if _labelled(session, name):
        raise KeyAccessError(KeysCode.KEK_EXISTS, f"the token has a key {name!r}")
    template = _NO_USE | {
        Attribute.SENSITIVE: True,
        Attribute.EXTRACTABLE: False,
        Attribute.PRIVATE: True,
        # Otherwise whoever has the PIN could allow other uses later, or copy it with them.
        Attribute.MODIFIABLE: False,
        Attribute.COPYABLE: False,
    }
    kek = session.generate_key(
        KeyType.AES,
        KEK_BITS,
        label=name,
        store=True,
        capabilities=MechanismFlag.DERIVE,
        template=template,
    )
    try:
        _require_protected(kek, name)
    except KeyAccessError:
        kek.destroy()
        raise
    return kek


def find_kek(session: Session, name: str) -> SecretKey:
    """Find a KEK, and check that it never was outside of the token and does nothing but derive.

    Args:
        session: of the token.
        name: the KEK's label.

    Raises:
        KeyAccessError: KEK_UNKNOWN, KEK_NOT_UNIQUE or KEK_UNPROTECTED.
        PKCS11Error: the token fails.
    """
    found = _labelled(session, name)
    if not found:
        raise KeyAccessError(KeysCode.KEK_UNKNOWN, f"the token has no secret key {name!r}")
    if len(found) > 1:
        raise KeyAccessError(
            Pkcs11Code.KEK_NOT_UNIQUE, f"the token has {len(found)} secret keys {name!r}"
        )
    _require_protected(found[0], name)
    return cast("SecretKey", found[0])


def protection(kek: Object) -> dict[str, tuple[object, object]]:
    """By attribute: what the token says of a KEK, and what it must be. None: it does not say."""
    told = kek.get_attributes(list(_REQUIRED))
    return {each.name: (told.get(each), want) for each, want in _REQUIRED.items()}


@contextmanager
def derived_key(
    kek: SecretKey, data: bytes, uses: MechanismFlag, template: dict[Attribute, Any]
) -> Iterator[SecretKey]:
    """Derive a key of 256 bits inside the token: AES-256-CBC(KEK, IV zero, SHA-256(data)).

    Args:
        kek: to derive from.
        data: what the key is for, in an encoding that is like no other purpose's.
        uses: what the key may do.
        template: further attributes.

    Raises:
        PKCS11Error: the token refuses.
    """
    # The digest is two whole blocks, so there is no padding, and one IV is enough because CBC is
    # used here as a function of the digest and not to hide it.
    key = cast("DeriveMixin", kek).derive_key(
        KeyType.AES,
        KEK_BITS,
        mechanism=Mechanism.AES_CBC_ENCRYPT_DATA,
        mechanism_param=(bytes(16), hashlib.sha256(data).digest()),
        capabilities=uses,
        template=_SESSION_KEY | template,
    )
    with temporary(key):
        yield key


@contextmanager
def temporary(key: Object) -> Iterator[None]:
    """Destroy a session object at the end. If that fails, its session must be closed: it raises."""
    try:
        yield
    finally:
        key.destroy()


def identity_of(kek: SecretKey, kwp: Mechanism) -> KekId:
    """The public identifier of a KEK, which the token computes without showing any key.

    Args:
        kek: the KEK.
        kwp: the token's mechanism for RFC 5649.

    Raises:
        PKCS11Error: the token refuses.
    """
    with (
        derived_key(kek, lp(ID_DOMAIN, b"wrapping"), MechanismFlag.WRAP, {}) as wrapping,
        derived_key(kek, lp(ID_DOMAIN, b"wrapped"), MechanismFlag(0), WRAPPED_KEY) as wrapped,
    ):
        blob = cast("WrapMixin", wrapping).wrap_key(wrapped, mechanism=kwp)
    return KekId(hashlib.sha256(lp(ID_DOMAIN, blob)).digest())


def _labelled(session: Session, name: str) -> list[Object]:
    return list(
        session.get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.LABEL: name})
    )


def _require_protected(kek: Object, name: str) -> None:
    wrong = [
        f"{attribute} {told}, want {want}"
        for attribute, (told, want) in protection(kek).items()
        if told != want
    ]
    if wrong:
        raise KeyAccessError(Pkcs11Code.KEK_UNPROTECTED, f"key {name!r}: {'; '.join(wrong)}")
