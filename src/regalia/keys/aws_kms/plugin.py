"""The plug-in ``aws-kms``: opens keys of AWS KMS, and examines them."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from regalia.core.errors import KeyAccessError
from regalia.core.secret import SecretBytes
from regalia.keys.aws_kms.address import parse_address
from regalia.keys.aws_kms.codes import AwsKmsCode
from regalia.keys.aws_kms.connection import Connection
from regalia.keys.aws_kms.store import AwsKmsKeyStore
from regalia.keys.base import MODEL_KEY_SIZE, Ability
from regalia.keys.codes import KeysCode
from regalia.keys.reference import check_name

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.keys.base import KekId

SCHEME = "aws-kms"


class AwsKmsKit:
    """Implements ``keys.base.Kit``. A location is a region; see ``keys.aws_kms.address``."""

    asks = None  # credentials are where AWS's SDK looks for them

    def open(self, location: str, folder: Path, secret: SecretBytes | None) -> AwsKmsKeyStore:
        """Find credentials and address; nothing is asked yet. See ``keys.base.Kit``.

        Args:
            location: region or ARN.
            folder: where a relative path in it begins.
            secret: not used.
        """
        del secret
        return AwsKmsKeyStore(Connection(parse_address(location, folder)))

    def is_new(self, location: str, folder: Path) -> bool:
        """Never: there is always a KMS.

        Args:
            location: region or ARN.
            folder: where a relative path in it begins.
        """
        del location, folder
        return False

    def make_kek(self, location: str, folder: Path, secret: SecretBytes | None, name: str) -> KekId:
        """Refuse, as keys are made together with their key policy.

        Args:
            location: region or ARN.
            folder: where a relative path in it begins.
            secret: not used.
            name: of the KEK.

        Raises:
            KeyAccessError: KEK_MADE_ELSEWHERE.
        """
        del secret
        check_name(name)
        address = parse_address(location, folder)
        raise KeyAccessError(AwsKmsCode.KEK_MADE_ELSEWHERE, f"{address}: {name!r} is not made here")

    def examine(
        self, location: str, folder: Path, secret: SecretBytes | None, name: str
    ) -> list[Ability]:
        """Try out what these credentials can do; see ``keys.base.Kit``.

        Args:
            location: region or ARN.
            folder: where a relative path in it begins.
            secret: not used.
            name: of the KEK.
        """
        with self.open(location, folder, secret) as store:
            found = [Ability("has the key", holds=True, shown=str(store.kek_id(name)))]
            with SecretBytes(bytearray(secrets.token_bytes(MODEL_KEY_SIZE))) as key:
                blob = store.wrap(name, key, b"one")
            found.append(_outside_of_enclaves(store, name, blob))
        kek = "AWS keeps it in its HSMs, by its own statement"
        found.append(Ability("keeps the KEK from everybody", holds=True, shown=kek))
        return found


KIT = AwsKmsKit()


def _outside_of_enclaves(store: AwsKmsKeyStore, name: str, blob: bytes) -> Ability:
    ability = "gives keys to enclaves only"
    try:
        store.recover_for_owner(name, blob, b"one").close()
    except KeyAccessError as exc:
        if exc.code is not KeysCode.OWNER_CANNOT_RECOVER:
            raise
        return Ability(ability, holds=True, shown="these credentials cannot decrypt without one")
    return Ability(ability, holds=False, shown="these credentials can decrypt without one")
