"""``python -m server`` is the command ``server``."""

from server.cli import main

main()
