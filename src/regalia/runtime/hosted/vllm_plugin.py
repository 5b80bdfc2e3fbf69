"""The entry point ``regalia`` of ``vllm.general_plugins``. vLLM calls it in each of its processes.

It protects the process, and registers the loader. In a process that Regalia's runtime has not
started it does nothing at all, so that an installed Regalia changes no other vLLM.
"""

from __future__ import annotations

import os
import sys
from functools import cache

from regalia.runtime.hosted.child import CHILD_VARIABLE


@cache  # vLLM may call a plug-in several times
def register() -> None:
    """Protect this process, register the load format ``regalia``, and save a start of vLLM's.

    vLLM logs an exception of a plug-in and goes on without it, so this ends the process instead.
    """
    if CHILD_VARIABLE not in os.environ:
        return
    try:
        from regalia.engines.vllm.loader import look_at_models_with, register_loader
        from regalia.runtime.hosted.forked import run_forked
        from regalia.runtime.hosted.shared_memory import use_prefix
        from regalia.runtime.hosted.worker import open_weights, protect_process

        protect_process()
        use_prefix(os.environ[CHILD_VARIABLE])
        register_loader(open_weights)
        look_at_models_with(run_forked)
    except BaseException as exc:  # noqa: BLE001 - see above
        # There is no key yet, and no prompt, that a message could hold.
        print(f"regalia: the plug-in failed: {type(exc).__name__}: {exc}", file=sys.stderr)  # noqa: T201
        sys.stderr.flush()
        os._exit(1)
