"""What a measured boot must be, by its event log: part of the sections of TEEs that quote PCRs.

Spec: docs/spec/policy.md, section "boot". What a log proves is in docs/spec/event-logs.md.
"""

from __future__ import annotations

from regalia.appraisal.policy_doc import Doc, Listed, Requirement, Switch, Unrestricted

TEXT_MAX = 4096  # characters of one text of a boot loader, such as a kernel command line
DIGEST_SIZES = (32, 48)  # bytes; of the quoted bank
PCR_COUNT = 24
PCR_SIZE = 32  # bytes; the banks' digests differ in size, so policies speak of SHA-256 alone
REGISTERS = tuple(str(index) for index in range(PCR_COUNT))

Pcrs = dict[str, list[str]] | Unrestricted  # by register: accepted values, 32 bytes each


class Boot(Doc, frozen=True, kw_only=True):
    """Rules about the event log. Where one is closed, a log must come along.

    ``loader_texts`` and ``loader_digests`` are one rule: a log can show a text as a digest alone,
    so a list of texts means something only beside a list of digests.
    """

    event_log: Requirement
    secure_boot: Requirement
    boot_images: Listed  # digests of loaders, kernels and whatever else was started
    loader_texts: Listed  # all that loaders measured as text: command lines, commands
    loader_digests: Listed  # all else that they measured: kernels, initrds, sections
    unknown_events: Switch
