"""The `audiodae` command: words on the command line, and what is printed."""
