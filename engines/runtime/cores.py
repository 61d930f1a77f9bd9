"""How many threads a network on the CPU should have."""

from __future__ import annotations

import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")
SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


def cores() -> int:
    """Physical cores that this process may use, a container's quota included. Two threads of one core share the units
    that compute a convolution, so they count once."""
    allowed = os.sched_getaffinity(0)
    physical = set()
    for cpu in allowed:
        try:
            physical.add(Path(SIBLINGS.format(cpu)).read_text(encoding="ascii").strip())
        except OSError:
            physical.add(str(cpu))
    return max(1, min(len(physical), quota(_text(QUOTA)) or len(physical)))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""


def quota(cpu_max: str) -> int | None:
    """Whole cores that a cgroup's ``cpu.max`` (``"200000 100000"``) allows, rounded up; None: no limit."""
    words = cpu_max.split()
    if len(words) != 2 or not (words[0].isdigit() and words[1].isdigit()) or int(words[1]) == 0:
        return None
    return max(1, -(-int(words[0]) // int(words[1])))


def threads(wanted: int) -> int:
    """``wanted``, or where that is 0 the cores there are, less one for cameras and displays where there are more than
    two."""
    if wanted:
        return wanted
    there = cores()
    return there - 1 if there > 2 else there
