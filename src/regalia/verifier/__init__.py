"""Is the evidence genuine, fresh and made for this purpose? One dispatcher over all TEEs."""
