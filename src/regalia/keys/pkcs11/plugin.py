"""The plug-in ``pkcs11``: opens tokens, makes KEKs in them and examines them."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from regalia.keys.pkcs11.connection import Connection
from regalia.keys.pkcs11.examine import examine
from regalia.keys.pkcs11.kek import identity_of, make_kek
from regalia.keys.pkcs11.library import load_library
from regalia.keys.pkcs11.store import Pkcs11KeyStore
from regalia.keys.pkcs11.uri import parse_uri
from regalia.keys.pkcs11.wrapping import find_suite
from regalia.keys.reference import check_name

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.core.secret import SecretBytes
    from regalia.keys.base import Ability, KekId

SCHEME = "pkcs11"


class Pkcs11Kit:
    """Implements ``keys.base.Kit``. A location is a PKCS#11 URI without its scheme.

    Paths in it are absolute, so ``folder`` is not used.
    """

    asks = "PIN"

    def open(self, location: str, folder: Path, secret: SecretBytes | None) -> Pkcs11KeyStore:
        """Log in to a token; see ``keys.base.Kit``.

        Args:
            location: PKCS#11 URI without its scheme.
            folder: not used.
            secret: the user PIN; the caller closes it.
        """
        del folder
        connection = _connect(location, secret)
        try:
            return Pkcs11KeyStore(connection)
        except BaseException:
            connection.close()
            raise

    def is_new(self, location: str, folder: Path) -> bool:
        """Never: tokens are set up with their vendor's tools.

        Args:
            location: PKCS#11 URI without its scheme.
            folder: not used.
        """
        del location, folder
        return False

    def make_kek(self, location: str, folder: Path, secret: SecretBytes | None, name: str) -> KekId:
        """Generate a KEK in the token; see ``keys.base.Kit``.

        Args:
            location: PKCS#11 URI without its scheme.
            folder: not used.
            secret: the user PIN; the caller closes it.
            name: of the KEK, its label in the token.
        """
        del folder
        check_name(name)
        with closing(_connect(location, secret)) as connection:
            # Before the KEK is made: a token that cannot use one should not keep one.
            with connection.session("trying out what the token can do") as session:
                suite = find_suite(session)
            with connection.writing(f"making the KEK {name!r}") as session:
                return identity_of(make_kek(session, name), suite.kwp)

    def examine(
        self, location: str, folder: Path, secret: SecretBytes | None, name: str
    ) -> list[Ability]:
        """Try out what the token can do; see ``keys.base.Kit``.

        Args:
            location: PKCS#11 URI without its scheme.
            folder: not used.
            secret: the user PIN; the caller closes it.
            name: of the KEK.
        """
        del folder
        with closing(_connect(location, secret)) as connection:
            return examine(connection, name)


KIT = Pkcs11Kit()


def _connect(location: str, secret: SecretBytes | None) -> Connection:
    uri = parse_uri(location)
    if secret is None:
        raise ValueError("this store asks for a PIN")
    return Connection(load_library(uri.library), uri, secret)
