"""One sentence for every rule about a measured boot, wherever in a policy it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.explanation import Sentence, accepted

if TYPE_CHECKING:
    from collections.abc import Callable


def _only(noun: str) -> Callable[[list[str]], str]:
    """Of a list that everything seen must be in."""
    say = accepted(noun)

    def sentence(values: list[str]) -> str:
        return f"{say(values)} Nothing else may have been measured." if values else say(values)

    return sentence


def _unknown(value: str) -> str:
    if value == "allow":
        return "The event log may hold events of unknown types."
    return "The event log must not hold events of unknown types."


def boot_sentences(path: str) -> tuple[Sentence, ...]:
    """For the rules that stand at ``path``."""
    return (
        Sentence(
            f"{path}.event_log",
            "An event log that leads to the quoted registers must come along.".format,
            "An event log need not come along.",
            "without one only register values say what booted, as far as pcrs lists them.",
        ),
        Sentence(
            f"{path}.secure_boot",
            "UEFI Secure Boot must have been on.".format,
            "UEFI Secure Boot may have been off.",
            "whoever writes the disk chooses what boots, as far as the other rules let it.",
        ),
        Sentence(
            f"{path}.boot_images",
            _only("programs of the boot (digest)"),
            "Any programs may have been started.",
            "other loaders and kernels than yours may boot, as far as pcrs lets them.",
        ),
        Sentence(
            f"{path}.loader_texts",
            _only("texts of boot loaders"),
            "Boot loaders may have measured any text.",
            "a kernel command line such as init=/bin/sh passes, as far as pcrs lets it.",
        ),
        Sentence(
            f"{path}.loader_digests",
            _only("files of boot loaders (digest)"),
            "Boot loaders may have measured any files.",
            "another kernel or initrd may have been loaded, as far as pcrs lets it.",
        ),
        Sentence(f"{path}.unknown_events", _unknown),
    )
