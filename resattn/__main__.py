"""`python -m resattn`."""

from resattn.cli.app import main

main()
