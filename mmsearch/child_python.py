"""A fresh Python that imports this very mmsearch, for child processes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

_SET_PATH = "import sys, json; sys.path[:] = json.loads(sys.argv[1]);"


def command(code: str, *arguments: str) -> list[str]:
    """The command that runs some code; its ``sys.argv`` has the arguments from 2 on.

    Nothing is imported from the folder that it runs in, which may be anybody's (so ``-P``): a
    numpy.py there would be run.
    """
    package = str(Path(__file__).resolve().parents[1])
    path = [package, *(os.path.abspath(entry) for entry in sys.path if entry)]
    return [sys.executable, "-P", "-c", _SET_PATH + code, json.dumps(path), *arguments]
