"""Turns what a token answers into refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkcs11 import exceptions as ckr

from regalia.core.errors import KeyAccessError, UnavailableError
from regalia.keys.pkcs11.codes import Pkcs11Code

if TYPE_CHECKING:
    from regalia.core.errors import RegaliaError

# The session, the login or the token has ended; what was open before is not usable any more.
_LOST = (
    ckr.DeviceError,
    ckr.DeviceRemoved,
    ckr.SessionClosed,
    ckr.SessionHandleInvalid,
    ckr.SlotIDInvalid,
    ckr.TokenNotPresent,
    ckr.TokenNotRecognised,
    ckr.UserNotLoggedIn,
)
_BUSY = (ckr.DeviceMemory, ckr.HostMemory, ckr.SessionCount)
_UNSUITED = (
    ckr.ArgumentsBad,
    ckr.AttributeReadOnly,
    ckr.AttributeTypeInvalid,
    ckr.AttributeValueInvalid,
    ckr.FunctionNotSupported,
    ckr.KeyNotWrappable,
    ckr.KeyUnextractable,
    ckr.MechanismInvalid,
    ckr.MechanismParamInvalid,
    ckr.TemplateIncomplete,
    ckr.TemplateInconsistent,
)


def refusal_of(error: ckr.PKCS11Error, doing: str) -> RegaliaError:
    """The refusal that an error of the token's deserves.

    Args:
        error: of python-pkcs11.
        doing: what the token was asked to do, for people.
    """
    what = f"{doing}: the token gives {name_of(error)}"
    if isinstance(error, _LOST):
        return UnavailableError(Pkcs11Code.TOKEN_LOST, what)
    if isinstance(error, _BUSY):
        return UnavailableError(Pkcs11Code.TOKEN_BUSY, what)
    if isinstance(error, _UNSUITED):
        return KeyAccessError(Pkcs11Code.TOKEN_UNSUITED, what)
    return UnavailableError(Pkcs11Code.TOKEN_FAILED, what)


def name_of(error: ckr.PKCS11Error) -> str:
    """What the library calls an error; for one without a name, its number."""
    return str(error) or type(error).__name__
