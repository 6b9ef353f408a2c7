"""What each command does: a function from arguments to an exit status, a module for those of one kind."""
