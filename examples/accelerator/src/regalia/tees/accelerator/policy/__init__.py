"""The example accelerator: are verified claims acceptable?"""
