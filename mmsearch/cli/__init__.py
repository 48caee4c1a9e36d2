"""The command line: the only room that knows exit codes."""

from mmsearch.cli.app import EXIT_CODES, main

__all__ = ["EXIT_CODES", "main"]
