"""Where a run keeps its sockets, plans and logs, and how a running pipeline is found by its process number."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from rtpipe.errors import InputError, WorldError


def base() -> Path:
    """The directory of all runs of this user, made with mode 0700. Raises ``WorldError`` if it is someone else's."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    place = Path(runtime) / "rtpipe" if runtime and Path(runtime).is_dir() else None
    place = place or Path(tempfile.gettempdir()) / f"rtpipe-{os.getuid()}"
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if place.stat().st_uid != os.getuid():
            raise WorldError(f"{place} belongs to another user; remove it or set XDG_RUNTIME_DIR")
    except OSError as error:
        raise WorldError(f"{place}: no directory for sockets can be made: {error.strerror}") from error
    return place


def create() -> Path:
    """A fresh directory for this process's run; what a dead process of the same number left is removed."""
    for old in base().iterdir():
        if old.name.isdigit() and not _alive(int(old.name)) and not any(old.glob("*.log")):
            shutil.rmtree(old, ignore_errors=True)
    directory = base() / str(os.getpid())
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700)
    return directory


def running() -> list[int]:
    """The process numbers of this user's running pipelines."""
    return sorted(
        int(entry.name)
        for entry in base().iterdir()
        if entry.name.isdigit() and _alive(int(entry.name)) and (entry / "control.sock").exists()
    )


def find(pid: int | None = None) -> Path:
    """The directory of run ``pid``, or of the only one. Raises ``InputError``."""
    runs = running()
    if pid is None:
        if not runs:
            raise InputError("no pipeline is running; start one with: rtpipe run CONFIG")
        if len(runs) > 1:
            raise InputError(
                f"several pipelines are running ({', '.join(map(str, runs))}): say which with --run NUMBER"
            )
        pid = runs[0]
    if pid not in runs:
        raise InputError(f"no pipeline runs as {pid}; running: {', '.join(map(str, runs)) or 'none'}")
    return base() / str(pid)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
