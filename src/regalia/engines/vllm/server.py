"""vLLM's API server as a program that the runtime starts before the model's key was released.

``PRELOAD`` is imported while the runtime attests. vLLM's other processes are spawned, and import
the program of the process that spawned them once more: of this one that takes no time, while
vLLM's own would have each of them import the whole API server.
"""

from __future__ import annotations

PROGRAM = "regalia.engines.vllm.server"
PRELOAD = (
    "vllm.entrypoints.launchers.api_server.entry",
    "vllm.entrypoints.launchers.api_server.routers",
    "vllm.v1.engine.async_llm",
)


def main() -> None:
    """Run vLLM's API server with the arguments of this process."""
    from vllm.entrypoints.launchers.api_server.entry import main as serve

    serve()


if __name__ == "__main__":
    main()
