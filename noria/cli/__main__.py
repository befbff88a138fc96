"""`python -m noria.cli`."""

from noria.cli.main import main

main()
