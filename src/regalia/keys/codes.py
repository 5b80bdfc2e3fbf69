"""Reason codes of the key stores."""

from __future__ import annotations

from regalia.core.errors import Code


class KeysCode(Code):
    """Refusals around KEKs and model keys."""

    KEY_REFERENCE_MALFORMED = (
        "The command cannot tell which key is meant.",
        "Write SCHEME:LOCATION#NAME, for example dev-file:./keys.json#smollm2.",
    )
    KEY_STORE_LOCKED = (
        "The passphrase is wrong, or the part of the file that its check depends on was changed.",
        "Try the passphrase again; if it is right, restore the file from a backup.",
    )
    KEY_STORE_TAMPERED = (
        "Somebody without the passphrase changed this file; none of its keys is used.",
        "Restore the file from a backup, and find out who could write to it.",
    )
    KEY_STORE_PARAMETERS = (
        "Parameters outside these limits are either too weak or made to exhaust this machine.",
        "Restore the file from a backup, or make a new one with `regalia keygen kek`.",
    )
    KEK_UNKNOWN = (
        "Without its key-encryption key a model key cannot be opened.",
        "Check the name after # in the key reference, and that this is the right key store.",
    )
    KEK_EXISTS = (
        "Making it again would destroy the models that were sealed under it.",
        "Choose another name, or use the key that is there.",
    )
    KEK_MISMATCH = (
        "The model key was wrapped under another KEK than the one of this name here.",
        "Use the key store that the model was sealed with.",
    )
    KEY_UNWRAP_FAILED = (
        "The wrapped key was changed, or belongs to another model, version or seal.",
        "Get the sealed model again from its owner.",
    )
    RECORD_NO_RELEASE = (
        "A model key leaves the key store only for a release that stands in the log.",
        "This is a mistake in the calling service; report it.",
    )
    RECORD_OTHER_MODEL = (
        "The logged release is for another model than the wrapped key.",
        "This is a mistake in the calling service; report it.",
    )
    RECIPIENT_UNSUITED = (
        "This key store rewraps model keys only for platforms that it can verify or wrap to.",
        "Run the model on such a platform, or serve it from another key store.",
    )
    OWNER_CANNOT_RECOVER = (
        "A key in this store leaves it only for attested runtimes, and not for its owner either.",
        "Seal the model again from its files, or open it with a store that can recover keys.",
    )
