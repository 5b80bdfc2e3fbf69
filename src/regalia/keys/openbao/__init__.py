"""The key store ``openbao``: the transit engine of OpenBao or Vault."""
