"""`python -m arra_med.cli`: the command line without the console script, as `torchrun -m arra_med.cli` needs it."""

from arra_med.cli import main

main()
