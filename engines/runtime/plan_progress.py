"""How far a build is, told in words: TensorRT's nested phases as one rising percentage."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from engines.runtime.tensorrt_library import Loaded

SAY_EVERY_S = 2.0
"""How often progress is told at most."""


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


@dataclass
class Fraction:
    """How far a build is, from its nested phases: 0 to 1, and never less than before."""

    phases: dict[str, _Phase] = field(default_factory=dict)
    reached: float = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase of so many steps begins inside another."""
        self.phases[name] = _Phase(parent, max(1, steps))

    def step(self, name: str) -> None:
        """One of its steps is done."""
        if name in self.phases:
            self.phases[name].done += 1

    def finish(self, name: str) -> None:
        """It is over."""
        self.phases.pop(name, None)

    def now(self) -> float:
        """Of the outermost phases."""
        roots = [name for name, phase in self.phases.items() if phase.parent not in self.phases]
        if roots:
            self.reached = max(self.reached, sum(self._of(name, 0) for name in roots) / len(roots))
        return self.reached

    def _of(self, name: str, depth: int) -> float:
        phase = self.phases[name]
        inner = [each for each, other in self.phases.items() if other.parent == name] if depth < 8 else []
        part = sum(self._of(each, depth + 1) for each in inner) / len(inner) if inner else 0.0
        return min(1.0, (phase.done + part) / phase.steps)


def monitor(loaded: Loaded, name: str, progress: Callable[[str], None]) -> Any:
    """A progress monitor: tells how far it is, and ends the build where telling raises (a key was pressed)."""
    started = time.monotonic()

    class Monitor(loaded.module.IProgressMonitor):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            loaded.module.IProgressMonitor.__init__(self)
            self._lock = threading.Lock()
            self._fraction = Fraction()
            self._said_at = started
            self._raised: BaseException | None = None

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with self._lock:
                self._fraction.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, _step: int) -> bool:
            try:
                with self._lock:
                    self._fraction.step(phase_name)
                    now = time.monotonic()
                    say = now - self._said_at >= SAY_EVERY_S
                    if say:
                        self._said_at = now
                        percent = int(100 * self._fraction.now())
                if say:
                    progress(f"{loaded.row.title}: building {name}, {percent} % after {now - started:.0f} s")
            except BaseException as error:  # must not pass through the library, which knows no Python exceptions
                self._raised = self._raised or error
            return self._raised is None

        def phase_finish(self, phase_name: str) -> None:
            with self._lock:
                self._fraction.finish(phase_name)

        def raise_what_ended_it(self) -> None:
            """What ``progress`` raised, if it did."""
            if self._raised is not None:
                raise self._raised

    return Monitor()
