"""TPM 2.0: are verified claims acceptable?"""
