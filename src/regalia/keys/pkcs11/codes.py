"""Reason codes of the PKCS#11 key store."""

from __future__ import annotations

from regalia.core.errors import Code


class Pkcs11Code(Code):
    """Refusals around tokens, and around KEKs in tokens."""

    TOKEN_URI_MALFORMED = (
        "The command cannot tell which token is meant, or a PIN would stand where others read it.",
        "Write pkcs11:token=LABEL?module-path=/PATH/LIBRARY.so#NAME; the PIN is asked for.",
    )
    TOKEN_LIBRARY_UNUSABLE = (
        "A token can be used only through its vendor's PKCS#11 library.",
        "Check module-path, and that the library and its own configuration are installed here.",
    )
    TOKEN_NOT_FOUND = (
        "The KEK does not exist anywhere else.",
        "Connect the token, or check token= and serial= against what `pkcs11-tool -L` lists.",
    )
    TOKEN_NOT_UNIQUE = (
        "Two tokens with one label may hold different keys of the same name.",
        "Add serial= to the key reference.",
    )
    TOKEN_PIN_WRONG = (
        "The token does not open, and every wrong PIN brings it closer to locking itself.",
        "Check the PIN. A running broker does not try this PIN again: start it with the right one.",
    )
    TOKEN_PIN_LOCKED = (
        "Too many wrong PINs were tried, so the token now refuses the right one as well.",
        "Have the token's security officer set a new PIN, and find out who tried the wrong ones.",
    )
    TOKEN_PIN_UNSET = (
        "A token without a user PIN keeps no private keys.",
        "Have the token's security officer set the user PIN.",
    )
    TOKEN_LOST = (
        "The token ended its sessions: it was removed or restarted, or its link broke.",
        "Nothing needs a restart here: the next use connects again. See the token's own log.",
    )
    TOKEN_BUSY = (
        "All sessions with the token are in use, and callers are not kept waiting for longer.",
        "Ask again; if it lasts, look whether the token still answers.",
    )
    TOKEN_IN_USE = (
        "A process logs in to a token once, and a second login would not check its PIN.",
        "Close the other key store of this process first.",
    )
    TOKEN_OTHER_PROCESS = (
        "PKCS#11 gives sessions to one process, and a forked one that uses them may mix up keys.",
        "This is a mistake in the calling service, which must open it itself; report it.",
    )
    TOKEN_UNSUITED = (
        "Without this the token cannot wrap or rewrap model keys as the specification says.",
        "Run `regalia keys doctor` for what it can do; allow the mechanism, or use another token.",
    )
    TOKEN_FAILED = (
        "The token refused or failed, so nothing was released.",
        "Look up the CKR name in the vendor's manual, and see the token's own log.",
    )
    KEK_NOT_UNIQUE = (
        "Which of several keys with one label a token uses is up to chance.",
        "Remove or rename the other keys with this label.",
    )
    KEK_UNPROTECTED = (
        "A KEK that can leave the token, came from outside, or decrypts data may exist elsewhere.",
        "Make a KEK in the token with `regalia keygen kek`, and seal or rotate the models to it.",
    )
