"""What the supervisor, its workers and a person's control connection say to each other: typed, in msgpack.

Nothing here carries data packets; those go over :mod:`rtpipe.sockets`.
"""

from __future__ import annotations

import re
from typing import Any, TypeAlias, TypeVar

import msgspec

from rtpipe.clocks.relation import Clock
from rtpipe.errors import InputError, WireError
from rtpipe.ledger import Flow, ReceivedLedger, SentLedger

VERSION = 1
MAX_BYTES = 1 << 22


class Latency(msgspec.Struct, frozen=True):
    """Arrival at this host to processed, over one edge: number of packets, p50 and p99 in µs."""

    n: int
    p50_us: float
    p99_us: float


SHOWN, MADE = "sensor to screen", "sensor to output"
"""Latencies from the instant that a picture shows, by the camera's clock where that is steady (beside the constant part
of the way to the host, which cannot be seen from here), to the screen; to the picture made."""

WAITING, RUNNING, DONE = "waiting", "running", "done"
"""A worker's state: for the others or for its own parts to be ready; moving packets; at its proper end."""


class Report(msgspec.Struct, frozen=True, tag="report"):
    """A worker's state, four times a second and once at its end. All counts are cumulative."""

    name: str
    state: str
    pid: int = 0
    sent: list[SentLedger] = []
    received: list[ReceivedLedger] = []
    flows: dict[str, Flow] = {}
    latency: dict[str, Latency] = {}
    facts: dict[str, str] = {}
    notes: dict[str, str] = {}
    """What a driver wants kept with recordings (JSON by name), as it is now."""
    position_s: float | None = None
    duration_s: float | None = None
    clock: Clock | None = None
    """A driver's: its camera's clock on the host's, while that is steady."""
    rewound_s: float | None = None
    """A history's: how far its stream is behind the newest data, None while that is live."""


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """A worker cannot go on: ``kind`` ``"input"`` (the user's to mend), ``"world"`` (disk, device) or ``"bug"``."""

    name: str
    kind: str
    text: str


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """What became of a :class:`Do` (from a worker) or a :class:`Request` (to a person). ``declined``: it is not for
    this worker just now, another may obey."""

    id: int
    ok: bool
    text: str
    declined: bool = False


class Ask(msgspec.Struct, frozen=True, tag="ask"):
    """A command that a sink's user gave (a key in the display)."""

    name: str
    command: str


class Request(msgspec.Struct, frozen=True, tag="request"):
    """A person's command through the control socket; answered by :class:`Answer` with the same ``id``."""

    id: int
    command: str


FromWorker: TypeAlias = Report | Failed | Answer | Ask | Request


class Do(msgspec.Struct, frozen=True, tag="do"):
    """Obey a command; answer with the same ``id``."""

    id: int
    command: str


class Absent(msgspec.Struct, frozen=True, tag="absent"):
    """This consumer died. ``will_return``: it is being restarted."""

    consumer: str
    will_return: bool


class Status(msgspec.Struct, frozen=True, tag="status"):
    """The pipeline's state in one line, for overlays, how far what is shown is rewound (s), None: it is live, and the
    clock of the source that is shown, while it is steady."""

    line: str
    rewound_s: float | None = None
    clock: Clock | None = None


class Note(msgspec.Struct, frozen=True, tag="note"):
    """Text to keep with a recording (``name``: ``"ledger"``, ``"mark"``)."""

    name: str
    text: str


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """Finish: a driver stops reading, everything else drains and closes."""


ToWorker: TypeAlias = Do | Absent | Status | Note | Stop


class InputPlan(msgspec.Struct, frozen=True):
    """One edge as its consumer sees it."""

    producer: str
    endpoint: str
    kinds: list[str]
    delivery: str


class WorkerPlan(msgspec.Struct, frozen=True):
    """All that one worker process needs. ``role`` ``"driver"``, ``"history"``, ``"engine"`` (windows and engine) or
    ``"sink"``; ``part`` the driver's, engine's or sink's name; ``consumers`` who must have answered before the first
    packet; ``life`` how often it was restarted."""

    name: str
    role: str
    part: str
    settings: dict[str, Any]
    control: str
    live: bool
    endpoint: str | None = None
    inputs: list[InputPlan] = []
    consumers: list[str] = []
    window: dict[str, Any] | None = None
    filters: list[dict[str, Any]] = []
    picture: bool = False
    load: dict[str, Any] | None = None
    notes: dict[str, str] = {}
    life: int = 0


Message = TypeVar("Message")
_encoder = msgspec.msgpack.Encoder()
_from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)


def encode(message: msgspec.Struct) -> bytes:
    """One message as bytes: a version byte, then msgpack."""
    return bytes([VERSION]) + _encoder.encode(message)


def _decode(decoder: msgspec.msgpack.Decoder[Message], data: bytes) -> Message:
    if not data or len(data) > MAX_BYTES:
        raise WireError("length", f"control message of {len(data)} bytes")
    if data[0] != VERSION:
        raise WireError("version", f"control message of version {data[0]}, this side speaks {VERSION}")
    try:
        message: Message = decoder.decode(memoryview(data)[1:])
        return message
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WireError("header", f"control message not understood: {error}") from error


def from_worker(data: bytes) -> FromWorker:
    """Decode what reaches the supervisor. Raises ``WireError``."""
    return _decode(_from_worker, data)


def to_worker(data: bytes) -> ToWorker:
    """Decode what reaches a worker. Raises ``WireError``."""
    return _decode(_to_worker, data)


COMMANDS = (
    "pause, resume, step, seek SECONDS (or +S, -S), speed FACTOR, rewind SECONDS, live, save SECONDS, record on|off, "
    "mark TEXT, set SETTING VALUE, status, stop"
)


def check_command(command: str) -> str:
    """A control command in its one spelling. Raises ``InputError`` that lists the commands (:data:`COMMANDS`)."""
    words = command.strip().split(None, 1)
    verb, argument = (words[0].lower() if words else ""), (words[1].strip() if len(words) > 1 else "")
    if verb in ("pause", "resume", "step", "live", "status", "stop") and not argument:
        return verb
    if verb in ("seek", "speed", "rewind", "save"):
        try:
            number = float(argument)
        except ValueError:
            raise InputError(f"{verb} wants a number, not {argument!r}") from None
        if not -1e9 < number < 1e9 or (verb == "speed" and number < 0) or (verb in ("rewind", "save") and number <= 0):
            raise InputError(f"{verb} {argument}: out of range")
        return f"{verb} {argument}"
    if verb == "record" and argument in ("on", "off"):
        return f"record {argument}"
    if verb == "set":
        key, _, value = argument.partition(" ")
        if not re.fullmatch(r"[A-Za-z_][\w.-]{0,99}", key) or not value.strip():
            raise InputError("set wants a camera's setting and its value: set frames.exposure_us 8000, set roi off")
        return f"set {key} {value.strip()[:10_000]}"
    if verb == "mark" and argument:
        return f"mark {argument[:1000]}"
    raise InputError(f"no such command: {command!r}; there are {COMMANDS}")
