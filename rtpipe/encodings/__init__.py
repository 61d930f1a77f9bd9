"""Event cameras' own encodings: bytes to events and back.

One module per encoding, each with the same inner names: ``NAME``; ``WORD``, bytes per word; ``INITIAL``, the state of a
decoder that has seen nothing; ``Decoder(resolution, state)``, a stream that may begin at any word given the state
before it; ``scan(data, state)``, what is in a run of bytes without making events; ``warm()``. A state is a few bytes of
no meaning to others; everything that was said before it and matters after it is inside.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from types import ModuleType

from rtpipe.encodings.decoded import Decoded, Refused, Scan
from rtpipe.errors import InputError
from rtpipe.types import RawEvents, Resolution

__all__ = ["NAMES", "Decoded", "Refused", "Scan", "decode", "load", "warm"]

NAMES = ("evt2", "evt21", "evt3")
"""The encodings there are."""


def load(name: str) -> ModuleType:
    """The module of an encoding. Raises ``InputError`` for one that is not known."""
    if name not in NAMES:
        raise InputError(f"there is no encoding {name!r}; known: {', '.join(NAMES)}")
    return importlib.import_module(f"rtpipe.encodings.{name}")


def decode(raw: RawEvents, resolution: Resolution) -> Decoded:
    """The events and triggers of a run of a camera's own bytes, from its own state: no other run is needed. Its ``t0``
    is added to their times.

    Raises ``InputError`` for an unknown encoding, a state that is none, or bytes that are not whole words.
    """
    module = load(raw.encoding)
    if len(raw.data) % module.WORD:
        raise InputError(f"{raw.encoding}: {len(raw.data)} bytes are not whole words of {module.WORD}")
    decoded: Decoded = module.Decoder(resolution, raw.state).decode(raw.data)
    if not raw.t0:
        return decoded
    events, triggers = decoded.events, decoded.triggers
    return replace(
        decoded, events=replace(events, t=events.t + raw.t0), triggers=replace(triggers, t=triggers.t + raw.t0)
    )


def warm(name: str) -> None:
    """Compile, or load, every kernel of an encoding, so that no packet waits for it."""
    load(name).warm()
