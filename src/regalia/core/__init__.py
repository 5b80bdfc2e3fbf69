"""The floor of the house: errors, secrets, codecs, configuration. Imports nothing of Regalia."""
