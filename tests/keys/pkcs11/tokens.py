"""Opens tokens and makes KEKs, as the product's commands do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from regalia.core.secret import SecretBytes
from regalia.keys.pkcs11.plugin import KIT
from regalia_testing.soft_token import PIN

if TYPE_CHECKING:
    from regalia.keys.pkcs11.store import Pkcs11KeyStore
    from regalia_testing.soft_token import SoftToken


def opened(token: SoftToken, pin: bytes = PIN) -> Pkcs11KeyStore:
    with SecretBytes(bytearray(pin)) as secret:
        return KIT.open(token.location, Path(), secret)


def add_kek(token: SoftToken, name: str) -> str:
    with SecretBytes(bytearray(PIN)) as secret:
        return str(KIT.make_kek(token.location, Path(), secret, name))
