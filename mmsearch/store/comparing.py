"""Whether ``parts.parquet`` holds the rows of ``parts.arrow``, looked at by a process of its own.

Parquet is packed: a few kilobytes of a stranger's can unpack to any size, and nothing that stands
in the file says to which. So it is read by a child whose memory and processor time are limited,
which is started with the first segment and kept for the others.
"""

from __future__ import annotations

import atexit
import json
import mmap
import os
import signal
import socket
import subprocess
import threading
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.ipc

from mmsearch import child_python, forks
from mmsearch.store.confined import ConfinedPath
from mmsearch.store.rows import BATCH_ROWS, PARTS_SCHEMA

MEMORY_BYTES = 768 << 20  # what a decoder of files may take, too; a group of rows takes some MB
CPU_S = 600.0  # for one segment: a file that is made to be slow ends here
_SERVE = "from mmsearch.store.comparing import serve; serve(int(sys.argv[2]))"
_LIMITED = hasattr(socket, "send_fds")  # not on Windows


def difference(parquet: ConfinedPath, arrow: ConfinedPath, rows: int) -> str | None:
    """How the Parquet file differs from the Arrow file, whose values were checked; None if it
    does not. Raises OSError for files that cannot be opened."""
    files = []
    try:
        files = [path.open_descriptor() for path in (parquet, arrow)]
        ask = _reader.ask if _LIMITED else _compared
        return ask(files[0], files[1], rows)
    finally:
        for descriptor in files:
            os.close(descriptor)


class _Reader:
    """The child, while there is one. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        forks.renewed(self, _Reader._renew)

    def _renew(self) -> None:
        """See ``forks.renewed``: what was started is the parent's to ask and to end."""
        if self._socket is not None:
            self._socket.close()
        forks.abandon(self._child)
        self._lock, self._child, self._socket = threading.Lock(), None, None

    def ask(self, parquet: int, arrow: int, rows: int) -> str | None:
        """What the child says of two files."""
        with self._lock:
            if self._child is None or self._child.poll() is not None:
                self._start()
            assert self._socket is not None
            answer = b""
            with suppress(OSError):
                socket.send_fds(self._socket, [str(rows).encode()], [parquet, arrow])
                while not answer.endswith(b"\n") and (piece := self._socket.recv(4096)):
                    answer += piece
            if answer.endswith(b"\n"):
                found: str | None = json.loads(answer)
                return found
            return f"cannot be read: its reader ended with {self._ended()}"

    def _start(self) -> None:
        self.close()
        ours, theirs = socket.socketpair()
        with theirs:
            self._child = child_python.start(
                _SERVE,
                str(theirs.fileno()),
                # another pool sets memory aside that counts as used
                environment={"ARROW_DEFAULT_MEMORY_POOL": "system"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._socket = ours

    def _ended(self) -> str:
        assert self._child is not None and self._socket is not None
        self._socket.close()  # if it lives, because it was never asked, it leaves now
        code = self._child.wait()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def close(self) -> None:
        """Ends the child."""
        if self._socket is not None:
            self._socket.close()  # it leaves when nobody can ask any more
        if self._child is not None:
            self._child.wait()
        self._socket = self._child = None


_reader = _Reader()
atexit.register(_reader.close)


# -- in the child ---------------------------------------------------------------------


def serve(descriptor: int) -> None:
    """Answers questions on a socket until its other end is closed."""
    from pyarrow import parquet  # noqa: F401 - before memory is limited

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    child_python.limit_memory(MEMORY_BYTES)
    with socket.socket(fileno=descriptor) as asked:
        while True:
            rows, files, _, _ = socket.recv_fds(asked, 64, 2)
            if not rows:
                return
            child_python.limit_cpu(CPU_S)
            try:
                answer = _compared(files[0], files[1], int(rows))
            finally:
                for file in files:
                    os.close(file)
            asked.sendall(json.dumps(answer).encode() + b"\n")


def _compared(parquet: int, arrow: int, rows: int) -> str | None:
    try:
        return _difference(parquet, arrow, rows)
    except MemoryError:
        return f"needs more than {MEMORY_BYTES >> 20} MB of memory to be read"
    except (pa.ArrowException, OSError, ValueError) as e:
        return f"cannot be read: {' '.join(str(e).split())[:300]}"


def _difference(parquet: int, arrow: int, rows: int) -> str | None:
    from pyarrow import parquet as pq

    content = mmap.mmap(arrow, 0, access=mmap.ACCESS_READ)
    alone = pa.ipc.IpcReadOptions(use_threads=False)
    parts = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(content)), options=alone).read_all()
    with os.fdopen(os.dup(parquet), "rb") as file:
        packed = pq.ParquetFile(file, pre_buffer=False)
        if packed.metadata.num_rows != rows:
            return f"{packed.metadata.num_rows:,} rows; the manifest says {rows:,}"
        at = 0
        batches: Any = packed.iter_batches(BATCH_ROWS, use_threads=False)
        for batch in batches:
            found = pa.Table.from_batches([batch]).cast(PARTS_SCHEMA)
            if not found.equals(parts.slice(at, batch.num_rows)):
                return "differs from parts.arrow"
            at += batch.num_rows
    return None if at == rows else f"{at:,} rows; the manifest says {rows:,}"
