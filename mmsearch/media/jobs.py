"""A task on its way through the decoding processes, and what follows when one of them dies.

The file that a process worked on when it died is tried once more, alone in a fresh process.
Only when that ends in the same way, by a fault of the decoder's own, is the file to blame.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass

from mmsearch.media.events import Failed, Skipped, Task
from mmsearch.media.limits import MIB, Limits

# Signals that a decoder brings upon itself. Others come from outside: from the system that runs
# out of memory, or from a person; SIGBUS from a disk that is full or gone, SIGSYS from a sandbox.
_OWN_SIGNALS = frozenset(
    getattr(signal, name)
    for name in ("SIGSEGV", "SIGABRT", "SIGILL", "SIGFPE", "SIGXCPU", "SIGTRAP")
    if hasattr(signal, name)
)
# Exit codes of Windows: what ended by itself has one from here on, but for these two.
_LEAST_CRASH = 0xC0000000
_NO_MEMORY, _CONTROL_C = 0xC0000017, 0xC000013A


@dataclass(frozen=True, slots=True)
class Death:
    """How a decoding process ended. ``own``: its decoder did that, and nobody else."""

    reason: str
    own: bool = False


@dataclass(eq=False, slots=True)
class Job:
    """A task and how far it got.

    parts: how many were handed on, over all tries. digest: the content hash of the bytes that
    they are of. answer: what the caller said to that hash. died: how the first try ended.
    """

    task: Task
    parts: int = 0
    digest: str | None = None
    answer: bool | None = None
    died: Death | None = None


def death_by_exit(code: int, limits: Limits) -> Death:
    """What an exit code says. code: as ``subprocess`` has it, negative for a signal."""
    if code >= _LEAST_CRASH:
        own = code not in (_NO_MEMORY, _CONTROL_C)
        return Death(f"the decoder crashed (exit code 0x{code:X})", own)
    if code >= 0:
        return Death(f"the decoder ended with exit code {code}")
    try:
        name = signal.Signals(-code).name
    except ValueError:
        return Death(f"the decoder was ended by signal {-code}")
    if name == "SIGXCPU":
        return Death(f"one part of it took more than {limits.worker_cpu_s:g} s to compute", True)
    if name == "SIGABRT":  # so PDFium ends when it gets no more memory
        most = limits.worker_memory_bytes // MIB
        memory = f", perhaps because it may take {most:,} MiB of memory"
        return Death(f"the decoder gave up (signal {-code}, {name}{memory})", True)
    if -code in _OWN_SIGNALS:
        return Death(f"the decoder crashed (signal {-code}, {name})", True)
    memory = ", perhaps out of memory" if name == "SIGKILL" else ""
    return Death(f"the decoder was killed (signal {-code}, {name}{memory})")


def death_by_silence(timeout_s: float) -> Death:
    """The end of a process that was killed because it said nothing."""
    return Death(f"the decoder gave no sign of life for {timeout_s:g} s")


def death_by_memory(reached_limit: bool, limits: Limits) -> Death:
    """The end of a process that ran out of memory. reached_limit: of ours, not of the machine."""
    if reached_limit:
        most = limits.worker_memory_bytes // MIB
        return Death(f"it needs more memory than a decoder may take ({most:,} MiB)", True)
    return Death("there was not enough memory to decode it")


def verdict(job: Job, last: Death) -> Skipped | Failed:
    """What becomes of a file whose second try ended so, too."""
    if last.own and last == job.died:
        return Skipped(job.task, "decode", f"{last.reason}; it was tried twice")
    return Failed(job.task, "decode", last.reason)
