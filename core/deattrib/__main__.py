"""`python -m deattrib`."""

from deattrib.cli.main import main

main()
