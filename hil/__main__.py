"""`python -m hil`."""

from hil.cli import main

main()
