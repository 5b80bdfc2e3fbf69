"""NVIDIA GPUs and NVSwitches: are verified claims acceptable?"""
