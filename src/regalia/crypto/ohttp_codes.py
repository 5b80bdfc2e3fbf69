"""Codes of the sealed channel. Spec: docs/spec/sealed-channel.md, section 8."""

from __future__ import annotations

from regalia.core.errors import Code

CHUNK_MAX = 16384  # bytes of plaintext; every implementation of the draft accepts this size


class OhttpCode(Code):
    """Refusals of sealed requests and answers."""

    OHTTP_KEY_CONFIG_MALFORMED = (
        "A key configuration that can be read in two ways could name two keys.",
        "Fetch the runtime's evidence again.",
    )
    OHTTP_SUITE_UNSUPPORTED = (
        "Peers that share no algorithm cannot seal anything to each other.",
        "Use a client and a runtime of the same protocol version.",
    )
    OHTTP_KEY_UNKNOWN = (
        "The request is sealed to a key that this runtime does not hold.",
        "Fetch the runtime's evidence again, verify it, and seal to the key in it.",
    )
    OHTTP_HEADER_TRUNCATED = (
        "The message ended inside its header; nothing of it was opened.",
        "Send the request again.",
    )
    OHTTP_CHUNK_EMPTY = (
        "Chunks without content would let a peer keep a connection busy for nothing.",
        "Use a peer that follows draft-ietf-ohai-chunked-ohttp.",
    )
    OHTTP_CHUNK_TOO_LARGE = (
        "The limit keeps a peer from filling this process's memory.",
        f"Seal at most {CHUNK_MAX} bytes in one chunk.",
    )
    OHTTP_TOO_MANY_CHUNKS = (
        "Opening a chunk costs the same whether it holds one byte or thousands.",
        f"Seal {CHUNK_MAX} bytes in each chunk but the last.",
    )
    OHTTP_CHUNK_ALTERED = (
        "Somebody in the path changed a chunk, or sealed it with another key.",
        "Send the request again; if it recurs, look at who relays your traffic.",
    )
    OHTTP_CHUNK_REORDERED = (
        "Somebody in the path moved chunks, or left some out.",
        "Send the request again; if it recurs, look at who relays your traffic.",
    )
    OHTTP_CHUNK_REPEATED = (
        "Somebody in the path sent a chunk twice.",
        "Send the request again; if it recurs, look at who relays your traffic.",
    )
    OHTTP_TRUNCATED = (
        "The message was cut: what arrived is genuine, and it is not all.",
        "Send the request again, and do not act on the part that arrived.",
    )
    OHTTP_FINAL_ALTERED = (
        "Somebody in the path changed the last chunk, or appended bytes to it.",
        "Send the request again, and do not act on the part that arrived.",
    )
    OHTTP_DATA_AFTER_FINAL = (
        "Something follows the chunk that was sealed as the last one.",
        "Send the request again; if it recurs, look at who relays your traffic.",
    )
