"""Azure confidential VMs: are verified claims acceptable?"""
