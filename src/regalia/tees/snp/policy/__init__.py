"""AMD SEV-SNP: are verified claims acceptable?"""
