"""Names in stores: allow-lists of files of a sealed model, of blobs and of versions."""

from __future__ import annotations

import re

from regalia.core.errors import Code

MANIFEST = "manifest.json"
INDEX = "index.seal"
BLOB_NAME = re.compile(r"manifest\.json|[a-z0-9][a-z0-9-]{0,63}\.seal")
# A blob in a store that names what it keeps by SHA-256. The colon of a digest is a character that
# S3 and some file systems treat specially.
ADDRESSED = re.compile(r"sha256-([0-9a-f]{64})")
# What a reader of ranges may ask a server for.
STORED_NAME = re.compile(f"(?:{BLOB_NAME.pattern})|(?:{ADDRESSED.pattern})")
# A version's name, as registries allow it.
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class StoreCode(Code):
    """Refusals around stores of ciphertext."""

    BLOB_MISSING = (
        "The store does not have this file of the sealed model.",
        "Check the store's address, and whether it names a version; upload the sealed model again.",
    )
    STORE_ANSWER_WRONG = (
        "A store that answers something else than was asked is broken or hostile.",
        "Fetch the model from another store, and look at this one.",
    )
    STORE_ACCESS_REFUSED = (
        "The store does not know these credentials, or they may not do this with this file.",
        "Renew them, or allow what was refused; S3 says the same of files that it does not have.",
    )
    STORE_CREDENTIALS_MISSING = (
        "S3 wants signed requests, and the usual places of the AWS SDK hold no credentials.",
        "Give the process a role, a profile or the SDK's variables; name public buckets by https.",
    )
    STORE_FAILED = (
        "The store did not deliver within a few attempts.",
        "Check the store, then start again.",
    )
    RANGE_REFUSED = (
        "One range of bytes can be asked for at once, and it must lie inside the file.",
        "Ask for one range, bytes=FIRST-LAST.",
    )
    VERSION_MISSING = (
        "The store has no version of this name.",
        "Run `regalia ls` on the store to see its versions, and check the spelling.",
    )
    VERSION_EXISTS = (
        "A name that silently came to mean other bytes would mislead whoever reads it.",
        "Push under another name, or give --replace if everybody should get the new one.",
    )
    NOT_A_SEALED_MODEL = (
        "The version exists, and is something else than a sealed model of Regalia.",
        "Check repository and name; sealed models get there by `regalia push`.",
    )
    BLOB_CHANGED = (
        "Bytes that have not the SHA-256 that the owner signed are not part of the model.",
        "Transfer it again; if that repeats, one side's storage is broken or hostile.",
    )
    STORE_CANNOT = (
        "This kind of store has no such operation.",
        "Read docs/howto/move-sealed-models.md for what works where.",
    )
    TRANSFER_RUNNING = (
        "Two transfers into one folder would write over each other.",
        "Wait for the other one, or choose another folder.",
    )
    TRANSFER_NO_SPACE = (
        "What has arrived is kept, and the rest found no room.",
        "Free space on that file system, and run the same command again: it continues.",
    )
    CREDENTIAL_HELPER_REFUSED = (
        "Whoever may write that file could run a program of their choice inside the TEE.",
        "Give a runtime the credentials themselves in an auths entry of its own file.",
    )
    CREDENTIAL_HELPER_FAILED = (
        "The configuration of Docker names a program that should know the credentials.",
        "Run `docker login`, or correct credHelpers and credsStore.",
    )
