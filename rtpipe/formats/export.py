"""What writers of exports share: a file (or folder) that has its name only when it is whole."""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, TypeVar

from rtpipe.errors import InputError, WorldError
from rtpipe.types import Count

_E = TypeVar("_E", bound="Export")


class Export(ABC):
    """A recording being written as ``PATH.part`` (a context manager); a base for writers (contract.Writer).

    It takes its name in :meth:`close`; after an error (or a kill) there is no ``PATH``. A writer opens ``self._file``
    at ``self._part`` and does everything that touches the disk inside ``self._world()``. Raises ``InputError`` where
    ``path`` is taken already (an empty folder is not), unless ``overwrite``.
    """

    HOLDS: ClassVar[tuple[str, ...]] = ()
    FAILURES: ClassVar[tuple[type[Exception], ...]] = (OSError,)
    """What writing raises where the disk is full or not writable."""

    _file: Any

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        self.path = Path(path)
        self._part = self.path.with_name(self.path.name + ".part")
        self._open = True
        if not overwrite and os.path.lexists(self.path) and not (self.path.is_dir() and not any(self.path.iterdir())):
            raise InputError(f"{self.path}: there is something of that name already; nothing is overwritten")

    @abstractmethod
    def close(self) -> Mapping[str, Count]:
        """Finish the file and give it its name; how much of each stream it holds. May be called twice."""

    def discard(self) -> None:
        """Give up: nothing is left on the disk."""
        if self._open:
            self._open = False
            with suppress(*self.FAILURES, AttributeError):  # also when the file could not be made
                self._let_go()
            if self._part.is_dir() and not self._part.is_symlink():
                shutil.rmtree(self._part, ignore_errors=True)
            else:
                with suppress(OSError):
                    self._part.unlink(missing_ok=True)

    def _let_go(self) -> None:
        self._file.close()

    def _name(self) -> None:
        """The last step of :meth:`close`: close the file and give it its name."""
        with self._world():
            self._let_go()
            self._part.replace(self.path)
        self._open = False

    def __enter__(self: _E) -> _E:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    @contextmanager
    def _world(self) -> Iterator[None]:
        """Turn what the disk does to us into words; nothing is left of the file then."""
        try:
            yield
        except self.FAILURES as error:
            self.discard()
            reason = getattr(error, "strerror", None) or str(error).strip("'\"").split("\n")[0]
            raise WorldError(f"{self.path}: cannot be written: {reason}") from error
