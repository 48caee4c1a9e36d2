"""A process that reads files for a benchmark, and is started anew where a file kills it."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

PATIENCE_S = 60.0


class Worker:
    """``script`` in a process of its own, which calls ``serve`` where ``--serve`` is given."""

    def __init__(self, script: str) -> None:
        self._script = script
        self._process: subprocess.Popen[str] | None = None

    def ask(self, *question: str) -> Any:
        """The answer; None where the process died, or took more than a minute."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, self._script, "--serve", "."],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        process, answers = self._process, queue.Queue[str]()
        assert process.stdin is not None
        out = process.stdout
        assert out is not None
        process.stdin.write(json.dumps(question) + "\n")
        process.stdin.flush()
        threading.Thread(target=lambda: answers.put(out.readline()), daemon=True).start()
        try:
            answer = answers.get(timeout=PATIENCE_S)
        except queue.Empty:
            answer = ""
        if answer:
            return json.loads(answer)
        self.close()
        return None

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def serve(answer: Callable[..., Any]) -> None:
    """Answers questions, one on each line of stdin, until there are no more."""
    out, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        out.write(json.dumps(answer(*json.loads(line))) + "\n")
        out.flush()
