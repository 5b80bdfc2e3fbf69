"""Intel TDX and SGX: are verified claims acceptable?"""
