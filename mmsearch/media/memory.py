"""Whether a decoding process failed for lack of memory, and whose limit that was."""

from __future__ import annotations

import sys
from pathlib import Path

_UNIT = 1 << 10  # of what /proc says


def may_be_why(most: int) -> bool:
    """Whether a decoder that refused a file may have lacked memory, and taken that for damage.

    Each library says so in its own words, or says something else. So it counts how near this
    process ever came to a limit: what it could not get is in no figure, and pictures are unpacked
    in few large pieces, so half of the limit is near. most: bytes, of ``limit_memory``.
    """
    if sys.platform != "linux":
        return False
    import resource

    status = _facts("/proc/self/status")
    peak = status.get("VmPeak", 0)
    data_peak = peak - status.get("VmSize", 0) + status.get("VmData", 0)
    for kind, used in ((resource.RLIMIT_DATA, data_peak), (resource.RLIMIT_AS, peak)):
        limit = resource.getrlimit(kind)[0]
        if limit != resource.RLIM_INFINITY and limit - used < min(limit, most) // 2:
            return True
    return False


def is_own_limit(most: int) -> bool:
    """Whether a process that lacks memory met the limit of ``limit_memory``, and no other: not one
    of the session, and not the end of the machine's memory."""
    if _facts("/proc/meminfo").get("MemAvailable", 0) < most:  # also: it does not say
        return False
    import resource

    own = resource.getrlimit(resource.RLIMIT_DATA)[0] == most
    return own and resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY


def _facts(path: str) -> dict[str, int]:
    """Sizes in bytes by their names; none where the system does not say."""
    try:
        lines = [line.split() for line in Path(path).read_text().splitlines()]
    except OSError:
        return {}
    return {f[0].rstrip(":"): int(f[1]) * _UNIT for f in lines if len(f) == 3 and f[2] == "kB"}
