"""Keeps a model key that is in the broker's memory for a moment out of files and debuggers.

Root on the broker's machine reads its memory all the same. docs/limitations.md says so: with
custody "broker" the broker belongs on a machine of the model owner.
"""

from __future__ import annotations

import ctypes
import os
import resource

from regalia.broker.codes import BrokerCode
from regalia.core.errors import LocalError

PR_SET_DUMPABLE = 4  # linux/prctl.h


def harden() -> tuple[str, ...]:
    """Switch off core dumps and tracing by other processes of the same user.

    Returns:
        What holds now, in words.

    Raises:
        LocalError: HARDENING_REFUSED.
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
