"""The plug-in ``openbao``: opens transit mounts, makes KEKs in them and examines them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.core.errors import KeyAccessError
from regalia.keys.openbao.address import parse_address
from regalia.keys.openbao.connection import Connection
from regalia.keys.openbao.examine import examine
from regalia.keys.openbao.store import OpenBaoKeyStore
from regalia.keys.reference import check_name
from regalia.keys.service_codes import KeyServiceCode

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.core.secret import SecretBytes
    from regalia.keys.base import Ability, KekId

SCHEME = "openbao"


class OpenBaoKit:
    """Implements ``keys.base.Kit``. A location is a URL; see ``keys.openbao.address``."""

    asks = None  # the location names the files that a login needs

    def open(self, location: str, folder: Path, secret: SecretBytes | None) -> OpenBaoKeyStore:
        """Log in, and stay so; see ``keys.base.Kit``.

        Args:
            location: URL of the mount.
            folder: where relative paths in it begin.
            secret: not used.
        """
        del secret
        connection = Connection(parse_address(location, folder))
        try:
            store = OpenBaoKeyStore(connection)
            _clean(store)
        except BaseException:
            connection.close()
            raise
        connection.keep_alive()
        return store

    def is_new(self, location: str, folder: Path) -> bool:
        """Never: mounts are made by the server's administrator.

        Args:
            location: URL of the mount.
            folder: where relative paths in it begin.
        """
        del location, folder
        return False

    def make_kek(self, location: str, folder: Path, secret: SecretBytes | None, name: str) -> KekId:
        """Have the server make a KEK; see ``keys.base.Kit``.

        Args:
            location: URL of the mount.
            folder: where relative paths in it begin.
            secret: not used.
            name: of the KEK.
        """
        check_name(name)
        with self.open(location, folder, secret) as store:
            store.make_kek(name)
            return store.kek_id(name)

    def examine(
        self, location: str, folder: Path, secret: SecretBytes | None, name: str
    ) -> list[Ability]:
        """Try out what this login can do; see ``keys.base.Kit``.

        Args:
            location: URL of the mount.
            folder: where relative paths in it begin.
            secret: not used.
            name: of the KEK.
        """
        with self.open(location, folder, secret) as store:
            return examine(store, name)


KIT = OpenBaoKit()


def _clean(store: OpenBaoKeyStore) -> None:
    """Remove what is left over, if this caller may: an owner need not be allowed to."""
    try:
        store.remove_left_overs()
    except KeyAccessError as exc:
        if exc.code is not KeyServiceCode.KEY_SERVICE_NOT_ALLOWED:
            raise
