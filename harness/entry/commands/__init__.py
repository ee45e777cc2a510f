"""`python -m harness COMMAND`: each command's arguments and action."""
