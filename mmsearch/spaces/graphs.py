"""ONNX graphs, opened: as they are where they are ours, checked and limited where they may not be.

A graph is somebody's program. One that came with an index or a space folder may compute only: it
reads no file but the weights beside it, has no loops and brings no operators of its own, and what
it may allocate and how long it may take is limited. What is left is said in SECURITY.md: a single
operator may take long, and ONNX Runtime itself is trusted.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmsearch import forks
from mmsearch.errors import SpaceUnavailable
from mmsearch.store.confined import AnyPath, ConfinedPath

MAX_GRAPH_BYTES = 2 << 30  # a protobuf message ends there
# Beside the weights, which are copied, and widened where they are stored in fewer bits: towers for
# pictures of 336 pixels take some 100 MB.
_MEMORY_BYTES, _COPIES = 256 << 20, 5
MAX_RUN_S = 120.0  # a decoder that says nothing for so long is killed, too
_WATCH_EVERY_S = 1.0
_SILENT = 4  # fatal errors only
_DEFAULT_DOMAINS = (b"", b"ai.onnx")
_PLACE_KEYS = (b"location", b"offset", b"length", b"checksum")
_DIGITS = frozenset(b"0123456789")

Field = tuple[int, int, int, int]  # number, wire type; start and end, or a varint's value and 0


@forks.native
def open_session(path: AnyPath, arrange: bool = True) -> Any:
    """A graph as an ONNX Runtime session that runs on the thread that calls it, and only there.

    path: a plain one is trusted; else it is a ``Session``. arrange: whether weights are copied
    into the order that is fastest to compute with. Raises SpaceUnavailable.
    """
    # from 1.32 on it reports what it does to its maker, and is asked not to before it is loaded
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not arrange:
        options.add_session_config_entry("session.disable_prepacking", "1")
    options.log_severity_level = 3
    providers = ["CPUExecutionProvider"]
    try:
        if isinstance(path, Path):
            return onnxruntime.InferenceSession(path, options, providers)
        options.log_severity_level = _SILENT
        graph, size = _checked(path)
        # the graph as it was checked; its weights are mapped from the folder
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(path.parent)
        )
        most = _MEMORY_BYTES + _COPIES * (len(graph) + size)
        with _limited(onnxruntime, options, most), _watch.until(options.set_load_cancellation_flag):
            session = onnxruntime.InferenceSession(graph, options, providers)
        return Session(session, path)
    except SpaceUnavailable:
        raise
    except Exception as e:  # onnxruntime's own exceptions derive from nothing narrower
        raise SpaceUnavailable(f"{path} cannot be loaded: {_reason(e)}") from None


def check_graph_file(path: AnyPath) -> None:
    """Looks through a graph for what it may not have; does not run it. Raises SpaceUnavailable."""
    try:
        if not isinstance(path, Path):
            _checked(path)
    except OSError as e:
        raise SpaceUnavailable(f"{path} cannot be loaded: {_reason(e)}") from None


def _checked(path: ConfinedPath) -> tuple[bytes, int]:
    """A graph's bytes, looked through, and how many its weights beside it have."""
    graph = path.read_bytes(MAX_GRAPH_BYTES)
    weights = path.with_name(path.name.removesuffix(".onnx") + ".bin")
    size = weights.stat().st_size if weights.is_file() else 0
    try:
        check_graph(graph, weights.name, size)
    except SpaceUnavailable as e:
        raise SpaceUnavailable(f"{path}: {e}") from None
    return graph, size


class Session:
    """A graph that came from elsewhere, opened: runs are limited, and their errors are ours."""

    def __init__(self, session: Any, path: AnyPath) -> None:
        self._session, self._path = session, path

    def run(self, outputs: list[str], inputs: Mapping[str, Any]) -> list[Any]:
        """As ONNX Runtime's. Raises SpaceUnavailable where the graph fails or takes too long."""
        import onnxruntime

        options = onnxruntime.RunOptions()
        options.log_severity_level = _SILENT  # what fails is said by an error

        def stop(_: bool) -> None:
            options.terminate = True

        try:
            with _watch.until(stop):
                found: list[Any] = self._session.run(outputs, inputs, options)
            return found
        except Exception as e:  # see ``open_session``
            raise SpaceUnavailable(f"{self._path} cannot be run: {_reason(e)}") from None


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


_registering = forks.Lock()


@contextmanager
def _limited(onnxruntime: Any, options: Any, most_bytes: int) -> Iterator[None]:
    """Gives the session that is made meanwhile an arena of its own, of so many bytes at most."""
    # as requested, not in powers of two: what it holds is what it needs
    arena = onnxruntime.OrtArenaCfg({"max_mem": most_bytes, "arena_extend_strategy": 1})
    kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    where = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT)
    options.add_session_config_entry("session.use_env_allocators", "1")
    with _registering:
        onnxruntime.create_and_register_allocator(where, arena)
        yield


class _Watch:
    """Stops what takes too long: one thread, while there is something to watch."""

    def __init__(self) -> None:
        self._begin()
        forks.renewed(self, _Watch._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._ends: dict[int, tuple[float, Any]] = {}  # id -> when it must be done, what stops it
        self._thread: threading.Thread | None = None

    @contextmanager
    def until(self, stop: Any, most_s: float = MAX_RUN_S) -> Iterator[None]:
        """Calls ``stop(True)`` where this has not ended after so many seconds."""
        key = id(stop)
        with self._lock:
            self._ends[key] = time.monotonic() + most_s, stop
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._ends.pop(key, None)

    def _run(self) -> None:
        while True:
            time.sleep(_WATCH_EVERY_S)
            now = time.monotonic()
            with self._lock:
                for end, stop in self._ends.values():
                    if end < now:
                        stop(True)
                if not self._ends:
                    self._thread = None
                    return


_watch = _Watch()


# -- what a graph may hold: onnx.proto, read field by field ---------------------------


def check_graph(content: bytes, weights: str, weights_bytes: int) -> None:
    """Looks through an ONNX model for what it may not have. Raises SpaceUnavailable.

    weights: the only file that its tensors may lie in, of so many bytes; 0 if there is none.
    """
    try:
        for number, kind, start, end in _fields(content, 0, len(content)):
            if number == 7 and kind == 2:
                _check_body(content, start, end, weights.encode(), weights_bytes)
            elif number in (20, 25):
                raise _Refused("has functions or training steps of its own")
    except _Refused as e:
        raise SpaceUnavailable(
            f"the graph {e}, which one that came from elsewhere may not."
        ) from None
    except (IndexError, ValueError):
        raise SpaceUnavailable("the graph is no ONNX model.") from None


class _Refused(Exception):
    """Something that a graph may not have."""


def _check_body(content: bytes, start: int, end: int, weights: bytes, size: int) -> None:
    for number, kind, a, b in _fields(content, start, end):
        if kind != 2:
            continue
        if number == 1:
            _check_node(content, a, b)
        elif number == 5:
            _check_tensor(content, a, b, weights, size)
        elif number == 15:
            raise _Refused("has sparse weights")


def _check_node(content: bytes, start: int, end: int) -> None:
    for number, kind, a, b in _fields(content, start, end):
        if kind != 2:
            continue
        if number == 7 and content[a:b] not in _DEFAULT_DOMAINS:
            raise _Refused(f"has operators of {content[a:b][:40]!r}")
        if number == 5:
            for inner, _, c, d in _fields(content, a, b):
                if inner in (6, 11):
                    raise _Refused("has loops or branches")
                if inner in (22, 23):
                    raise _Refused("has sparse weights")
                if inner in (5, 10):
                    _check_tensor(content, c, d, b"", 0)


def _check_tensor(content: bytes, start: int, end: int, weights: bytes, size: int) -> None:
    """weights: the file that its values may lie in; none where they must be inside."""
    outside: dict[bytes, bytes] = {}
    elsewhere = False
    for number, kind, a, b in _fields(content, start, end):
        if number == 14 and kind == 0:
            elsewhere = elsewhere or a != 0
        if number == 13 and kind == 2:
            entry = {inner: content[c:d] for inner, _, c, d in _fields(content, a, b)}
            key = entry.get(1, b"")
            if key in outside or key not in _PLACE_KEYS:
                raise _Refused("names the place of its weights in an unusual way")
            outside[key] = entry.get(2, b"")
            elsewhere = True
    if not elsewhere:
        return
    if not weights or outside.get(b"location") != weights:
        raise _Refused("has weights in a file other than the one beside it")
    numbers = [outside.get(b"offset", b"0"), outside.get(b"length", b"0")]
    if not all(0 < len(one) < 19 and _DIGITS.issuperset(one) for one in numbers):
        raise _Refused("names no place of its weights")
    if not size or sum(map(int, numbers)) > size:  # without a length they go on to the end
        raise _Refused("has weights beyond the end of their file")


def _fields(content: bytes, at: int, end: int) -> Iterator[Field]:
    """The fields of a protobuf message. Raises IndexError or ValueError where it is none."""
    while at < end:
        key, at = _varint(content, at)
        if key >= 1 << 32:  # protobuf would take its lower half for another field
            raise ValueError("a field's number of more than 32 bits")
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(content, at)
            yield number, kind, value, 0
            continue
        if kind == 2:
            length, at = _varint(content, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError("a group")
        if length > end - at:
            raise ValueError("it is cut")
        yield number, kind, at, at + length
        at += length
    if at != end:
        raise ValueError("it is cut")


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
