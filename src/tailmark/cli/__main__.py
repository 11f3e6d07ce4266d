"""`python -m tailmark.cli`."""

from tailmark.cli import main

main()
