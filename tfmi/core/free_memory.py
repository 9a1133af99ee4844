"""How much memory a process may still take."""

from __future__ import annotations

from pathlib import Path

MEMINFO = Path("/proc/meminfo")
# Of the group that a container's processes are in (cgroup v2); what it may hold, and what it holds.
GROUP_LIMIT, GROUP_USE = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")


def free_memory() -> int | None:
    """Bytes that the machine, and the container, have left; None where nothing says it, as on systems other than Linux."""
    left = [bytes_left for bytes_left in (_left_on_machine(), _left_in_group()) if bytes_left is not None]
    return min(left, default=None)


def _left_on_machine() -> int | None:
    try:
        lines = MEMINFO.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return None


def _left_in_group() -> int | None:
    try:
        return int(GROUP_LIMIT.read_text(encoding="ascii")) - int(GROUP_USE.read_text(encoding="ascii"))
    except (OSError, ValueError):  # "max" is no limit
        return None
