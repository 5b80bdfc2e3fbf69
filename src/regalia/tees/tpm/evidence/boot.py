"""The TCG event log of a machine whose TPM quoted its registers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.tees.boot.evidence import read_facts, require_pcrs
from regalia.tees.boot.evidence.log import Algorithm, parse_event_log

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regalia.tees.boot.claims import BootFacts
    from regalia.tees.tpm.evidence.layout import HashAlg

# Firmware, loader and kernel extend these before the log is closed, and nothing does later: the
# log must lead to every one of them. 14 is shim's.
BOOT_PCRS = (*range(10), 14)
# systemd and its likes go on extending these while the system runs, into no firmware log: where
# the log does not lead to the quoted value, its words about them count for nothing.
SHARED_PCRS = (11, 12, 13)


def verify_boot(data: bytes, pcrs: Mapping[int, bytes], bank: HashAlg) -> BootFacts | None:
    """What a log tells of the boot, once it leads to the quoted registers.

    Args:
        data: binary_bios_measurements, raw, untrusted; empty if none came along.
        pcrs: all registers of the quoted bank.
        bank: its hash.

    Returns:
        None without a log.

    Raises:
        ParseError: the log is malformed.
        AttestationError: EVENTLOG_MISMATCH.
    """
    if not data:
        return None
    log = require_pcrs(
        parse_event_log(data),
        {pcr: pcrs[pcr] for pcr in BOOT_PCRS},
        algorithm=Algorithm(bank),
        shared={pcr: pcrs[pcr] for pcr in SHARED_PCRS},
    )
    return read_facts(log)
