"""How many events a second come out of a Prophesee camera's own words on one core, beside the peers that are installed.

``rtpipe`` decodes words in memory, half a megabyte at a time as a reader does, every event checked, into columns that
are let go when the next come; ``rtpipe, scan`` only counts and finds the times, as raw passthrough does; ``rtpipe,
file`` opens the file (which goes over it once), reads it and decodes it. Peers read the file, which lies in the page
cache, whole; what each makes of it is its own (a structured array, columns, a store). Where a peer's events are not
ours, the note says so. The clock is the CPU time of this process, all threads together.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rtpipe import encodings
from rtpipe.bench.peers import Work
from rtpipe.bench.row import Row
from rtpipe.bench.window import SIZES, in_turns, synthetic
from rtpipe.errors import InputError
from rtpipe.formats import open_recording
from rtpipe.formats.prophesee_raw import Reader, Writer
from rtpipe.formats.words import PIECE
from rtpipe.types import Array, Events, Packet, Resolution

OURS = "rtpipe"
MOST_BYTES = 256 << 20
"""No file that is larger is measured: all of it is held in memory."""

Columns = tuple[Array, Array, Array, Array]


def measure(files: Sequence[Path] | None = None, seconds: float = 1.0) -> list[Row]:
    """Rows for every RAW file; of a synthetic one, written for it, where none is given.

    ``seconds``: roughly how long each contender is measured per file. Raises ``InputError`` for a file that is no
    Prophesee RAW. Blocks.
    """
    if files:
        return [row for path in files for row in on(path, seconds)]
    with tempfile.TemporaryDirectory() as folder:
        return on(_written(Path(folder) / "synthetic.raw", SIZES[1]), seconds)


def on(path: Path, seconds: float = 1.0) -> list[Row]:
    """Rows for one file."""
    with open_recording(path) as recording:
        if not isinstance(recording, Reader):
            raise InputError(f"{path}: Prophesee RAW wanted")
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path}: larger than {MOST_BYTES >> 20} MiB, take a shorter one")
        name, size = recording.encoding, recording.resolution
        events = recording.events()
        pieces = [run.body for run in recording.raw_runs(1 << 40)]
    if not len(events):
        raise InputError(f"{path}: holds no events, nothing to measure")
    words = np.concatenate([piece.data for piece in pieces])
    module, state = encodings.load(name), pieces[0].state
    contenders: dict[str, tuple[Work, str]] = {
        OURS: ([partial(_decode, module, words, state, size)], f"in memory, {len(words) / len(events):.1f} B/event"),
        f"{OURS}, scan": ([partial(_scan, module, words, state)], "counts and times alone"),
        f"{OURS}, file": ([partial(_read, path)], "opened, read, decoded"),
    }
    for peer, (work, columns, note) in peers(path, name).items():
        contenders[peer] = [work], f"{note}, {_agreement(columns(work()), events)}"
    label = f"{path.name} {size[0]}x{size[1]}, {len(events) / 1000:.0f}k events"
    return in_turns(f"{name.upper()} decoding", label, contenders, len(events), seconds)


def peers(path: Path, encoding: str) -> Mapping[str, tuple[Callable[[], Any], Callable[[Any], Columns], str]]:
    """The peers that are installed and read this encoding: a call, how to get t, x, y, p from its result, a note."""
    found: dict[str, tuple[Callable[[], Any], Callable[[Any], Columns], str]] = {}
    if encoding == "evt3" and _there("evt3"):
        import evt3

        found["evt3"] = (
            partial(evt3.decode_file, str(path)),
            lambda r: (r.timestamp, r.x, r.y, r.polarity),
            "from the file",
        )
    if encoding in ("evt2", "evt3") and _there("expelliarmus"):
        from expelliarmus import Wizard

        read = partial(Wizard(encoding=encoding).read, str(path))
        found["expelliarmus"] = read, lambda r: (r["t"], r["x"], r["y"], r["p"]), "from the file"
    if encoding in ("evt2", "evt3") and _there("faery"):
        import faery

        found["faery"] = partial(_of_faery, faery, path), lambda r: (r["t"], r["x"], r["y"], r["on"]), "from the file"
    if encoding == "evt3" and _there("eventcv"):
        import eventcv

        found["eventcv"] = partial(eventcv.load, str(path)), _of_eventcv, "from the file, into its own store"
    return found


def _there(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _of_faery(faery: Any, path: Path) -> Array:
    return np.concatenate(list(faery.events_stream_from_file(path)))


def _of_eventcv(store: Any) -> Columns:
    x, y, t, p = store.numpy().T
    return t, x, y, p


def _agreement(columns: Columns, events: Events) -> str:
    """Whether a peer has the events that we have."""
    t, x, y, p = (np.asarray(column).astype(np.int64) for column in columns)
    if len(t) != len(events) or any(np.any(a != b) for a, b in ((x, events.x), (y, events.y), (p, events.p))):
        return f"{len(t)} events, others than ours"
    late = int(np.count_nonzero(t != events.t))
    return f"{late} times differ" if late else "same events"


def _decode(module: Any, words: Array, state: bytes, size: Resolution) -> int:
    decoder = module.Decoder(size, state)
    return sum(len(decoder.decode(words[at : at + PIECE]).events) for at in range(0, len(words), PIECE))


def _scan(module: Any, words: Array, state: bytes) -> int:
    n = 0
    for at in range(0, len(words), PIECE):
        found = module.scan(words[at : at + PIECE], state)
        n, state = n + found.n, found.state
    return n


def _read(path: Path) -> int:
    with Reader(path) as reader:
        return sum(len(run) for run in reader.event_chunks())


def _written(path: Path, size: Resolution) -> Path:
    events = synthetic(size)
    events = Events(events.t - events.t[0], events.x, events.y, events.p)
    with Writer(path, size) as writer:
        writer.write(Packet("camera/events", 0, 0, int(events.t[-1]), 0, events))
    return path
