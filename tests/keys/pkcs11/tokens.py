"""Opens tokens and makes KEKs, as the product's commands do."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regalia.core.secret import SecretBytes
from regalia.keys.pkcs11.connection import Connection
from regalia.keys.pkcs11.library import load_library
from regalia.keys.pkcs11.plugin import KIT
from regalia.keys.pkcs11.uri import parse_uri
from regalia_testing.soft_token import LIBRARY, PIN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pkcs11.constants import Attribute

    from regalia.keys.pkcs11.store import Pkcs11KeyStore
    from regalia_testing.soft_token import SoftToken


def opened(token: SoftToken, pin: bytes = PIN) -> Pkcs11KeyStore:
    with SecretBytes(bytearray(pin)) as secret:
        return KIT.open(token.location, Path(), secret)


def add_kek(token: SoftToken, name: str) -> str:
    with SecretBytes(bytearray(PIN)) as secret:
        return str(KIT.make_kek(token.location, Path(), secret, name))


def connect(token: SoftToken) -> Connection:
    """A connection of the test's own. Only one may be open in this process."""
    with SecretBytes(bytearray(PIN)) as pin:
        return Connection(load_library(LIBRARY), parse_uri(token.location), pin)


def plant(token: SoftToken, attributes: Mapping[Attribute, Any]) -> None:
    """Put an object into a token that the product would not make."""
    with (
        closing(connect(token)) as connection,
        connection.writing("planting an object") as session,
    ):
        session.create_object(dict(attributes))
