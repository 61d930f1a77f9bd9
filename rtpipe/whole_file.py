"""Files that appear whole or not at all, whatever ends the process that writes them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def write(path: Path, parts: Iterable[bytes], *, mode: int = 0o666, folder_mode: int = 0o777) -> None:
    """Write ``parts`` one after the other to a file beside ``path`` that takes its place when it is on the disk; the
    folder is made if it is not there. ``mode``: its permissions, less the umask, from its first byte on. Blocks until
    the disk has it. Raises ``OSError``, and leaves what was there."""
    part = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    path.parent.mkdir(parents=True, exist_ok=True, mode=folder_mode)
    with suppress(FileNotFoundError):
        part.unlink()  # of a process of the same number that was killed
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
