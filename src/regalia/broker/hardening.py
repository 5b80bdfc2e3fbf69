"""Protects the broker's memory, which briefly holds model keys, from core dumps and debuggers.

Root on the broker's machine can still read that memory. With custody "broker" the broker must
therefore run on a machine that the model owner controls; see docs/limitations.md.
"""

from __future__ import annotations

import ctypes
import os
import resource

from regalia.broker.codes import BrokerCode
from regalia.core.errors import LocalError

PR_SET_DUMPABLE = 4  # linux/prctl.h


def harden() -> tuple[str, ...]:
    """Disable core dumps, and tracing by other processes of the same user.

    Returns:
        Names of the protections that are now in force, for the log.

    Raises:
        LocalError: HARDENING_REFUSED, the kernel refused one of them.
    """
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError) as exc:
        raise LocalError(BrokerCode.HARDENING_REFUSED, f"RLIMIT_CORE: {exc}") from exc
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    if libc.prctl(PR_SET_DUMPABLE, zero, zero, zero, zero) != 0:
        raise LocalError(
            BrokerCode.HARDENING_REFUSED, f"PR_SET_DUMPABLE: {os.strerror(ctypes.get_errno())}"
        )
    return ("RLIMIT_CORE 0", "PR_SET_DUMPABLE 0")
