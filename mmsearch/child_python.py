"""Child processes: a fresh Python that imports this very mmsearch, and its limits."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_SET_PATH = "import sys, json; sys.path[:] = json.loads(sys.argv[1]);"


def command(code: str, *arguments: str) -> list[str]:
    """The command that runs some code; its ``sys.argv`` has the arguments from 2 on.

    Nothing is imported from the folder that it runs in, which may be anybody's (so ``-P``): a
    numpy.py there would be run.
    """
    package = str(Path(__file__).resolve().parents[1])
    path = [package, *(os.path.abspath(entry) for entry in sys.path if entry)]
    return [sys.executable, "-P", "-c", _SET_PATH + code, json.dumps(path), *arguments]


def start(
    code: str, *arguments: str, environment: dict[str, str], **pipes: Any
) -> subprocess.Popen[bytes]:
    """A child that runs some code, see ``command``; it works in the root folder.

    Not in the caller's folder, which may be the one that is indexed: libsndfile, given a stream,
    looks for an empty name's resource fork: a file named `._`, which macOS leaves about, made
    every MP3 without a tag unreadable.
    environment: what is set there beside what is set here. pipes: what ``Popen`` takes.
    Raises OSError, or ValueError or TypeError where there is no Python to run.
    """
    return subprocess.Popen(
        command(code, *arguments),
        cwd=Path(__file__).resolve().anchor,
        env={**os.environ, **environment},
        **pipes,
    )


# -- in the child ---------------------------------------------------------------------


def limit_memory(most: int) -> None:
    """Limit the heap to so many bytes where the system can do that; never write a core file."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # elsewhere RLIMIT_DATA does not count what malloc maps
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        if hard == resource.RLIM_INFINITY or most < hard:
            resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def limit_cpu(most_s: float) -> None:
    """Allow so much processor time from now on; beyond it the system sends SIGXCPU, which ends
    the process."""
    try:
        import resource
    except ImportError:  # Windows
        return
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    limit = math.ceil(time.process_time() + most_s)
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))
