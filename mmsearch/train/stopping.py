"""Ctrl-C and SIGTERM: a run ends after the step that it is in, with a checkpoint."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Asked:
    """Whether somebody wants the run to stop; ``with`` while steps are made. Asked a second
    time it stops at once, by KeyboardInterrupt."""

    def __init__(self) -> None:
        self.stop = False
        self._before: dict[int, Any] = {}  # signal -> what handled it

    def __enter__(self) -> Asked:
        if threading.current_thread() is threading.main_thread():  # others may not
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self.stop:
            raise KeyboardInterrupt
        self.stop = True
