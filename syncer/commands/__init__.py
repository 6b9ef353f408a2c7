"""A module per command: ``HELP``, ``add_arguments(parser)``, ``run(arguments)``, which returns the exit status."""
