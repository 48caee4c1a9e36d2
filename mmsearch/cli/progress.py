"""The progress bar of a run: only on a terminal."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from mmsearch.indexer import Report


class IndexProgress:
    """Files done of files found, with rate and time left, on ``stream``."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar: Any = None
        self._task: Any = None
        self._last = 0.0
        self._stage = ""

    def __enter__(self) -> IndexProgress:
        return self

    @property
    def update(self) -> Any:
        """What the run calls; None when nobody is watching."""
        return self._update if self._stream.isatty() else None

    def _update(self, report: Report, path: str) -> None:
        now = time.monotonic()
        if now - self._last < 0.1 and report.stage == self._stage:
            return
        self._stage = report.stage
        self._last = now
        if self._bar is None:
            self._start()
        rate = report.done / max(now - self._started, 1e-9)
        self._bar.update(
            self._task,
            stage=report.stage,
            total=max(report.found, report.done),
            completed=report.done,
            rate=f"{rate:,.0f} files/s",
            skipped=f"skipped {report.skipped_so_far}" if report.skipped_so_far else "",
            failed=f"failed {report.failed_so_far}" if report.failed_so_far else "",
        )

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as TimeLeft

        self._started = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.fields[stage]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeLeft(),
            TextColumn("{task.fields[skipped]}"),
            TextColumn("{task.fields[failed]}"),
            console=Console(file=self._stream),
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task("", total=None, stage="", rate="", skipped="", failed="")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
