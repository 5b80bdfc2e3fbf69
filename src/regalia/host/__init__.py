"""Input and output at the bottom: files, sockets, the clock, configuration and plug-ins."""
