"""How addresses name a version: a tag behind a colon, or a digest behind an at sign."""

from __future__ import annotations

from regalia.store.names import DIGEST, TAG

LATEST = "latest"  # what registries take where no version is named


def split_reference(text: str) -> tuple[str, str | None]:
    """Split an address into place and version.

    Only the last folder may have a version: PLACE, PLACE:TAG or PLACE@sha256:HEX.

    Args:
        text: an address, or its path.

    Raises:
        ValueError: what stands behind the place is neither a tag nor a digest.
    """
    start = text.rfind("/") + 1
    last = text[start:]
    if "@" in last:
        name, _, reference = last.partition("@")
        if not DIGEST.fullmatch(reference):
            raise ValueError("behind an @ stands sha256: and 64 hexadecimal digits")
    elif ":" in last:
        name, _, reference = last.partition(":")
        if not TAG.fullmatch(reference):
            raise ValueError("a version's name has letters, digits and _.-, at most 128")
    else:
        return text, None
    return text[:start] + name, reference


def is_digest(reference: str) -> bool:
    """Whether a version is named by its digest; otherwise it is a tag."""
    return DIGEST.fullmatch(reference) is not None


def behind(place: str, reference: str) -> str:
    """Join place and version, as addresses have them.

    Args:
        place: without a version.
        reference: tag or digest.
    """
    return f"{place}@{reference}" if is_digest(reference) else f"{place}:{reference}"
