"""One thing that can be set on an open camera of dv-processing, and its range."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from drivers.camera.settings import Camera
from rtpipe.errors import InputError


@dataclass(frozen=True)
class Control:
    """``names`` of the settings that set it; ``wanted`` the state they ask for, None for: as the camera comes; ``get``
    and ``put`` the state; ``check`` raises ``InputError`` for a state out of range; ``says`` the range in words."""

    names: tuple[str, ...]
    says: str
    wanted: Callable[[Camera], Any]
    get: Callable[[], Any]
    put: Callable[[Any], None]
    check: Callable[[Any], None] = lambda state: None  # noqa: ARG005


def within(name: str, value: int, range_: tuple[int, int]) -> None:
    """Raises ``InputError`` where ``value`` is not."""
    if not range_[0] <= value <= range_[1]:
        raise InputError(f"{name}: {range_[0]:,} to {range_[1]:,} wanted, not {value:,}")


def integers(values: Any) -> tuple[int, ...]:
    """A tuple of the SDK's as plain numbers."""
    return tuple(int(value) for value in values)
