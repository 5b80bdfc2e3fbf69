"""vLLM as an engine: started, screened and fed with weights; unpatched.

``engine`` and ``surface`` run in Regalia's runtime, ``plugin``, ``loader`` and ``staging`` in the
processes of vLLM, which finds the plug-in by its entry point.
"""
