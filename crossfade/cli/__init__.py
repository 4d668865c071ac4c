"""The command ``crossfade``: parse arguments, call the composition root, choose the exit status."""

from crossfade.cli.app import main

__all__ = ["main"]
