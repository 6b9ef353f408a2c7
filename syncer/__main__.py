"""``python -m syncer`` is the command ``syncer``."""

from syncer.cli import main

main()
