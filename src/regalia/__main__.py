"""``python -m regalia``: the same as the ``regalia`` command."""

from regalia.cli.main import main

main()
