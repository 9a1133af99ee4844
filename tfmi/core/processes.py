"""Which process wrote something, and whether it still runs."""

from __future__ import annotations

import os
import platform
import sys


def this_process() -> str:
    """This process in words, for messages: ``"process 4711 on host"``."""
    return f"process {os.getpid()} on {platform.node()}"


def is_running(process: int) -> bool:
    """Whether a process of this machine exists. Where that cannot be found out the answer is yes."""
    if process <= 0:
        return False
    if sys.platform == "win32":
        return _is_running_on_windows(process)
    try:
        os.kill(process, 0)  # signal 0 only asks
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it is somebody else's
        return True
    return True


def _is_running_on_windows(process: int) -> bool:
    """``os.kill`` would end the process there, whatever the signal."""
    import ctypes

    query_limited_information = 0x1000
    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009 - the attribute exists on Windows only
    handle = kernel.OpenProcess(query_limited_information, False, process)
    if handle:
        kernel.CloseHandle(handle)
    return bool(handle)
