"""``python -m crossfade`` is the command ``crossfade``."""

from crossfade.cli import main

main()
