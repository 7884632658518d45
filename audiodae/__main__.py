"""`python -m audiodae` is `audiodae`."""

from audiodae.cli.main import main

main()
