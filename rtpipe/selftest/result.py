"""What one check found."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

State: TypeAlias = Literal["passed", "noted", "failed", "skipped"]


class Result(msgspec.Struct, frozen=True):
    """One line of the report. ``noted``: it works, but something should be known; ``skipped``: it could not be tried.
    ``numbers`` are what it was judged by."""

    check: str
    state: State
    says: str
    numbers: dict[str, float] = {}


class Report(msgspec.Struct, frozen=True):
    """All of it, as it is kept. ``camera``: the driver's own facts; ``streams``: what it said it would send."""

    when: str
    rtpipe: str
    machine: str
    driver: str
    camera: dict[str, str]
    streams: tuple[str, ...]
    resolution: tuple[int, int]
    seconds: float
    results: tuple[Result, ...]
    dropped: dict[str, int] = {}

    @property
    def ok(self) -> bool:
        """Nothing failed."""
        return all(result.state != "failed" for result in self.results)
