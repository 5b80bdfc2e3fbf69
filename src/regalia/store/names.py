"""Names of files in a store: an allow-list of the manifest and of encrypted files."""

from __future__ import annotations

import re

from regalia.core.errors import Code

BLOB_NAME = re.compile(r"manifest\.json|[a-z0-9][a-z0-9-]{0,63}\.seal")


class StoreCode(Code):
    """Refusals around stores of ciphertext."""

    BLOB_MISSING = (
        "The store does not have this file of the sealed model.",
        "Check the store's address; upload the whole sealed model again.",
    )
    STORE_ANSWER_WRONG = (
        "A store that answers something else than was asked is broken or hostile.",
        "Fetch the model from another store, and look at this one.",
    )
    STORE_ACCESS_REFUSED = (
        "The store does not know these credentials, or they may not read this file.",
        "Renew them, or allow them s3:GetObject. S3 says the same of files that it does not have.",
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
