"""AWS Nitro Enclaves: are verified claims acceptable?"""
