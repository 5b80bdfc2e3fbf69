"""Why an engine in processes of its own does not start, or does not get a request."""

from __future__ import annotations

from regalia.core.errors import Code


class HostedCode(Code):
    """Refusals around engines in processes of their own."""

    REQUEST_SURFACE_CLOSED = (
        "What shows weights or others' prompts is open only if the measured configuration says so.",
        "Leave the named parameter out, or ask the operator to have its surface opened.",
    )
    REQUEST_PARAMETER_UNKNOWN = (
        "A parameter that nobody has looked at could reveal weights or other callers' prompts.",
        "Leave the named parameter out.",
    )
    ENGINE_SURFACE_UNKNOWN = (
        "A misspelt surface would open nothing, and its owner would believe otherwise.",
        "Use the names in docs/reference/engine-surfaces.md.",
    )
    ENGINE_PROCESS_FAILED = (
        "The engine's processes start, hold weights and end as one group.",
        "Look at the named cause; the engine's last lines are in the error if it never served.",
    )
    ENGINE_FOLDER_UNSAFE = (
        "The engine's library reads configuration and tokenizer from files, never from a disk's.",
        "Name a folder on a tmpfs in engine_folder, such as /dev/shm or /run.",
    )
    WORKER_REFUSED = (
        "The model key goes to the engine's own workers, once to each, and to nobody else.",
        "Stop whatever else connects to the runtime's private socket.",
    )
