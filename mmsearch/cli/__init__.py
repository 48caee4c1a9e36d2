"""The command line: the only room that knows exit codes."""

from mmsearch.cli.app import main
from mmsearch.cli.edge import EXIT_CODES

__all__ = ["EXIT_CODES", "main"]
