"""Reason codes of NVIDIA's management library."""

from __future__ import annotations

from regalia.core.errors import Code


class NvidiaSourceCode(Code):
    """The machine's GPUs give no evidence."""

    NVML_UNREACHABLE = (
        "Without NVIDIA's management library no GPU can be asked for its report.",
        "Install NVIDIA's driver in the guest, so that libnvidia-ml.so.1 can be loaded.",
    )
    NVML_FAILED = (
        "A GPU that gives no report cannot be part of a confidential system.",
        "Check that confidential computing is enabled: nvidia-smi conf-compute -f.",
    )
