"""``regalia admin``: what a tenant's owners decide together."""
