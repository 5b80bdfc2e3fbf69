"""What the policies of TPMs and of Azure's VMs say of a measured boot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.policy_plugin import Section
from regalia.appraisal.policy_words import bad
from regalia.tees.boot.policy.fields import FIELDS
from regalia.tees.boot.policy.rules import firmware, loaded, log, started
from regalia.tees.boot.policy.section import Boot

if TYPE_CHECKING:
    from regalia.tees.boot.claims import BootFacts


def _loader_words_go_together(boot: Boot, path: str) -> None:
    if (boot.loader_texts == "any") != (boot.loader_digests == "any"):
        raise bad(
            f"{path}.loader_texts",
            "a log can show a text as a digest alone, so loader_digests is closed or open with it",
        )


BOOT: Section[Boot, BootFacts | None] = Section(
    section=Boot,
    fields=FIELDS,
    order=(
        log,
        firmware,
        "secure_boot",
        started,
        "boot_images",
        loaded,
        "loader_texts",
        "loader_digests",
        "unknown_events",
    ),
    cross_check=_loader_words_go_together,
)
