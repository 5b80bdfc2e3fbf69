"""NVIDIA GPUs and NVSwitches."""
