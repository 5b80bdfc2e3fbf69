"""Wrapping and rewrapping model keys inside a token. Spec: docs/spec/pkcs11-key-store.md."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key
from pkcs11.constants import Attribute, MechanismFlag, ObjectClass
from pkcs11.exceptions import PKCS11Error
from pkcs11.mechanisms import MGF, KeyType, Mechanism

from regalia.core.codec import lp
from regalia.core.errors import IntegrityError, KeyAccessError
from regalia.core.secret import SecretBytes
from regalia.crypto.key_wrapping import open_wrapped
from regalia.keys.base import MODEL_KEY_SIZE, KekId
from regalia.keys.codes import KeysCode
from regalia.keys.pkcs11.codes import Pkcs11Code
from regalia.keys.pkcs11.kek import WRAPPED_KEY, derived_key, identity_of, temporary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pkcs11.types import Object, SecretKey, Session, UnwrapMixin, WrapMixin

    from regalia.wire.release import KeyWrapping

WRAP_ALGORITHM = "regalia/wrap-pkcs11-aes256kwp/v1"
KWP_SIZE = MODEL_KEY_SIZE + 8  # bytes, RFC 5649
WRAPPED_SIZE = KekId.SIZE + KWP_SIZE
_TRIAL_BITS = 2048  # of an RSA key that opens nothing but one trial

# PKCS #11 3.0 gives RFC 5649 the number 0x210B. Before, 0x210A was in use, which other tokens give
# to RFC 3394 with PKCS #7 padding: its result is longer, so trying tells which of them it is.
_KWP_NUMBERS = (Mechanism.AES_KEY_WRAP_KWP, Mechanism.AES_KEY_WRAP_PAD)
_OAEP: dict[KeyWrapping, tuple[Mechanism, MGF, None]] = {
    "rsa-oaep-sha256": (Mechanism.SHA256, MGF.SHA256, None),
    "rsa-oaep-sha1": (Mechanism.SHA_1, MGF.SHA1, None),
}


@dataclass(frozen=True, slots=True)
class Suite:
    """What a token wraps with, found by trying.

    Attributes:
        kwp: its mechanism for RFC 5649.
        key_wrapping: its best RSAES-OAEP.
    """

    kwp: Mechanism
    key_wrapping: KeyWrapping


def find_suite(session: Session) -> Suite:
    """Try out on throw-away keys what a token can do.

    Raises:
        KeyAccessError: TOKEN_UNSUITED.
        PKCS11Error: the token fails.
    """
    kek = session.generate_key(
        KeyType.AES, 256, store=False, capabilities=MechanismFlag.DERIVE, template={}
    )
    with temporary(kek), derived_key(kek, b"", MechanismFlag(0), WRAPPED_KEY) as trial:
        return Suite(_working_kwp(kek, trial), _working_oaep(session, trial))


def _working_kwp(kek: SecretKey, trial: SecretKey) -> Mechanism:
    given: list[str] = []
    with derived_key(kek, b"trial", MechanismFlag.WRAP, {}) as wrapping:
        for mechanism in _KWP_NUMBERS:
            try:
                size = len(cast("WrapMixin", wrapping).wrap_key(trial, mechanism=mechanism))
            except PKCS11Error as exc:
                given.append(f"{mechanism:#x} {type(exc).__name__}")
                continue
            if size == KWP_SIZE:
                return mechanism
            given.append(f"{mechanism:#x} {size} bytes")
    raise KeyAccessError(
        Pkcs11Code.TOKEN_UNSUITED, f"AES key wrap with padding (RFC 5649): {', '.join(given)}"
    )


def _working_oaep(session: Session, trial: SecretKey) -> KeyWrapping:
    """Some tokens take one hash for OAEP and use another one for MGF1, so open what they wrap."""
    private = rsa.generate_private_key(65537, _TRIAL_BITS)
    given: list[str] = []
    with rsa_key(session, private.public_key()) as public:
        for name in _OAEP:
            try:
                wrapped = SecretBytes(bytearray(_oaep(public, trial, name)))
                open_wrapped(name, wrapped, private).close()
            except (PKCS11Error, IntegrityError) as exc:
                given.append(f"{name} {type(exc).__name__}")
                continue
            return name
    raise KeyAccessError(Pkcs11Code.TOKEN_UNSUITED, f"RSAES-OAEP wrapping: {', '.join(given)}")


def wrap(kek: SecretKey, model_key: SecretKey, context: bytes, suite: Suite) -> bytes:
    """Wrap a model key that is in the token, as KEK id ‖ RFC 5649, 72 bytes.

    Args:
        kek: to derive the wrapping key from.
        model_key: a session object of 32 bytes.
        context: what the wrapped key is bound to.
        suite: of the token.

    Raises:
        PKCS11Error: the token refuses.
    """
    identity = identity_of(kek, suite.kwp)
    with derived_key(kek, _purpose(identity, context), MechanismFlag.WRAP, {}) as wrapping:
        return identity.raw + cast("WrapMixin", wrapping).wrap_key(model_key, mechanism=suite.kwp)


@contextmanager
def unwrapped(kek: SecretKey, blob: bytes, context: bytes, suite: Suite) -> Iterator[SecretKey]:
    """Unwrap a model key inside the token, as a session object that can be wrapped but not read.

    Args:
        kek: that it was wrapped with.
        blob: the wrapped key, untrusted.
        context: what it must be bound to.
        suite: of the token.

    Raises:
        KeyAccessError: KEK_MISMATCH or KEY_UNWRAP_FAILED.
        PKCS11Error: the token fails.
    """
    if len(blob) != WRAPPED_SIZE:
        raise KeyAccessError(
            KeysCode.KEY_UNWRAP_FAILED, f"wrapped key: want {WRAPPED_SIZE} bytes, got {len(blob)}"
        )
    named, body = KekId(blob[: KekId.SIZE]), blob[KekId.SIZE :]
    with derived_key(kek, _purpose(named, context), MechanismFlag.UNWRAP, {}) as unwrapping:
        try:
            key = cast("UnwrapMixin", unwrapping).unwrap_key(
                ObjectClass.SECRET_KEY,
                KeyType.GENERIC_SECRET,
                body,
                mechanism=suite.kwp,
                capabilities=MechanismFlag(0),
                template=WRAPPED_KEY,
            )
        except PKCS11Error as exc:
            # Tokens differ in what they call a wrong check value; SoftHSM has no name for it. If
            # this token still computes the KEK's identity, the fault is the wrapped key's.
            identity = identity_of(kek, suite.kwp)
            if identity != named:
                raise KeyAccessError(
                    KeysCode.KEK_MISMATCH, f"wrapped under {named}; this KEK is {identity}"
                ) from exc
            raise KeyAccessError(
                KeysCode.KEY_UNWRAP_FAILED, f"the token gives {type(exc).__name__}"
            ) from exc
    with temporary(key):
        yield cast("SecretKey", key)


@contextmanager
def imported(session: Session, model_key: SecretBytes) -> Iterator[SecretKey]:
    """Bring a model key into the token, as a session object that cannot be read any more.

    Args:
        session: of the token.
        model_key: 32 bytes. The library copies them; its copies are not wiped.

    Raises:
        PKCS11Error: the token refuses.
    """
    template: dict[Attribute, Any] = WRAPPED_KEY | {
        Attribute.CLASS: ObjectClass.SECRET_KEY,
        Attribute.KEY_TYPE: KeyType.GENERIC_SECRET,
        Attribute.VALUE: model_key.view(),
    }
    key = session.create_object(template)
    with temporary(key):
        yield cast("SecretKey", key)


@contextmanager
def rsa_key(session: Session, public: rsa.RSAPublicKey) -> Iterator[WrapMixin]:
    """Bring a public key into the token, as a session object that wraps.

    Args:
        session: of the token.
        public: whoever has its private half can open what it wraps.

    Raises:
        PKCS11Error: the token refuses.
    """
    numbers = public.public_numbers()
    key = session.create_object(
        {
            Attribute.CLASS: ObjectClass.PUBLIC_KEY,
            Attribute.KEY_TYPE: KeyType.RSA,
            Attribute.MODULUS: numbers.n.to_bytes(public.key_size // 8, "big"),
            Attribute.PUBLIC_EXPONENT: numbers.e.to_bytes((numbers.e.bit_length() + 7) // 8, "big"),
            Attribute.TOKEN: False,
            Attribute.PRIVATE: False,
            Attribute.WRAP: True,
            Attribute.ENCRYPT: False,
            Attribute.VERIFY: False,
        }
    )
    with temporary(key):
        yield cast("WrapMixin", key)


def wrap_to(session: Session, key: SecretKey, public: rsa.RSAPublicKey, suite: Suite) -> bytes:
    """Wrap a key inside the token to an RSA key, as long as its modulus.

    Args:
        session: of the token.
        key: a session object.
        public: the recipient's.
        suite: of the token.

    Raises:
        PKCS11Error: the token refuses.
    """
    with rsa_key(session, public) as wrapping:
        return _oaep(wrapping, key, suite.key_wrapping)


def rsa_of(spki: bytes) -> rsa.RSAPublicKey | None:
    """The RSA key in a SubjectPublicKeyInfo; None if it is another one."""
    try:
        public = load_der_public_key(spki)
    except ValueError:
        return None
    return public if isinstance(public, rsa.RSAPublicKey) else None


def _oaep(public: WrapMixin, key: Object, name: KeyWrapping) -> bytes:
    parameters = cast("bytes", _OAEP[name])  # the stubs know only mechanisms with bytes
    return public.wrap_key(
        cast("SecretKey", key), mechanism=Mechanism.RSA_PKCS_OAEP, mechanism_param=parameters
    )


def _purpose(identity: KekId, context: bytes) -> bytes:
    return lp(WRAP_ALGORITHM.encode(), identity.raw, context)
