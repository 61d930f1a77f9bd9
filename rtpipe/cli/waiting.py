"""A line on the terminal that shows that something long is alive: what it does, and for how long it has."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

EVERY_S = 20.0
"""Where standard error is no terminal (a log, a service), a line so often."""


class Waiting:
    """A context; :meth:`say` replaces the line, from any thread. ``title`` stands in front of all that is said; with
    ``quiet`` nothing is shown."""

    def __init__(self, quiet: bool = False) -> None:
        self.title = ""
        self._lines = not quiet and not sys.stderr.isatty()
        self._next = time.monotonic() + EVERY_S
        columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
        hidden = quiet or self._lines
        self._bar = Progress(*columns, console=Console(stderr=True), disable=hidden, transient=True)
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> Waiting:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """What is being done."""
        text = f"{self.title}: {text}" if self.title else text
        self._bar.update(self._task, description=text)
        if self._lines and time.monotonic() >= self._next:
            self._next = time.monotonic() + EVERY_S
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()

    def line(self, text: str) -> None:
        """A line for good, on standard output, above the one that moves."""
        self._bar.stop()
        Console(soft_wrap=True).print(Text(text))
        self._bar.start()
