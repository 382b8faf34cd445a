"""The commands: a module each, with HELP, add_arguments() and run(), as plugins bring theirs."""
