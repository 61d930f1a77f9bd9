"""How good and how fast pictures from events are: each engine over one recording, as the pipeline would run it.

The recording's packets go through the window stage into the engine. Where it has frames, windows lie between them, so
that there is a picture at each frame's time, which is scored against that frame (:mod:`rtpipe.evaluate.reconstruction`
says how). An engine that uses frames predicts: its picture is made before the frame of that time is taken in; beside it
stands what holding the last frame would score. Without frames only the speed is measured, on ``CADENCE``.

Speed is the CPU time of ``infer`` per picture, all threads together, events included, compilation not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from rtpipe.engine import load_engine
from rtpipe.errors import InputError
from rtpipe.evaluate.reconstruction import Agreement, score
from rtpipe.formats import open_recording
from rtpipe.stage import EngineSpec
from rtpipe.types import Frame, Window
from rtpipe.window.settings import WindowSettings
from rtpipe.window.stage import WindowStage

CADENCE = WindowSettings(by="mixed", length_us=25_000, events=100_000)
"""Windows of a recording without frames, as in ``configs/replay-reconstruct.yaml``."""

ENGINES: dict[str, tuple[str, dict[str, Any]]] = {
    "complementary": ("complementary", {}),
    "leaky": ("leaky", {}),
    "complementary, frames": ("complementary", {"frames": True}),
}

HELD = "last frame, held"


class Result(msgspec.Struct, frozen=True):
    """What one engine reached on one recording. ``scores`` None where the recording has no frames."""

    engine: str
    recording: str
    pictures: int
    events: int
    p50_ms: float
    """CPU time of a picture, the median; 0 where there is nothing to compute."""
    p99_ms: float
    scores: Agreement | None
    scored: int
    """Frames that were scored."""


def measure(path: Path, also: Sequence[str] = ()) -> list[Result]:
    """A result per engine on the recording ``path``, those that need no weights and the ones named ``also``.

    Blocks for seconds, longer where a network runs. Raises ``InputError`` where the recording cannot be opened or gives
    no picture, and for an engine that does not exist or whose weights are not there.
    """
    with open_recording(path) as recording:
        framed = any(stream.kind == "frames" for stream in recording.streams)
    results = []
    for label, (name, settings) in (ENGINES | {name: (name, {}) for name in also}).items():
        if framed or not settings.get("frames"):
            results.append(_one(path, label, name, settings, framed))
    if framed:
        results.append(_held(path))
    return results


def _one(path: Path, label: str, name: str, settings: dict[str, Any], framed: bool) -> Result:
    engine = load_engine(name, **settings)
    spent: list[float] = []
    events = 0

    def infer(window: Window) -> Iterator[Frame]:
        nonlocal events
        events += window.n_events
        began = time.process_time()
        pictures = engine.infer(window)
        spent.extend([(time.process_time() - began) / max(len(pictures), 1) * 1e3] * len(pictures))
        yield from pictures

    outputs = _run(path, engine.spec, framed, engine.warm, infer)
    scores = score(path, outputs) if framed else None
    if scores is None:
        for _ in outputs:
            pass
    if not spent:
        raise InputError(f"{path}: holds too few events for a picture, nothing to measure")
    p50, p99 = np.percentile(spent, [50, 99])
    mean, n = (None, 0) if scores is None else (scores.mean, len(scores.frames))
    return Result(label, path.name, len(spent), events, float(p50), float(p99), mean, n)


def _held(path: Path) -> Result:
    last: Frame | None = None

    def infer(window: Window) -> Iterator[Frame]:
        nonlocal last
        if window.frame is not None:
            if last is not None:
                yield replace(last, t=window.frame.t)
            last = replace(window.frame, image=window.frame.image.copy())

    spec = EngineSpec(HELD, "events", needs_frame=True, stateful=True)
    scores = score(path, _run(path, spec, True, lambda _: None, infer))
    return Result(HELD, path.name, len(scores.frames), 0, 0.0, 0.0, scores.mean, len(scores.frames))


def _run(
    path: Path,
    spec: EngineSpec,
    framed: bool,
    warm: Callable[[tuple[int, int]], None],
    infer: Callable[[Window], Iterator[Frame]],
) -> Iterator[Frame]:
    """Everything ``infer`` makes of the recording's windows, in order of time."""
    stage = WindowStage(WindowSettings(by="between_frames") if framed else CADENCE, spec)
    with open_recording(path) as recording:
        streams = [replace(stream, name=f"camera/{stream.kind}") for stream in recording.streams]
        stage.open(streams)
        warm(recording.resolution)
        for packet in recording.packets():
            renamed = replace(packet, stream=f"camera/{packet.stream.rsplit('/', 1)[-1]}")
            for made in stage.process(renamed):
                if isinstance(made.body, Window):
                    yield from infer(made.body)


def table(results: list[Result]) -> Table:
    """``results`` of one recording (at least one) for the terminal, a row each."""
    caption = "SSIM and MSE of values 0 to 1: as they are; matched in brightness and contrast; both equalised"
    made = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), title_justify="left", caption_justify="left")
    made.title = f"{results[0].recording}, {max(each.events for each in results):,} events"
    made.caption = f"{caption}. CPU time per picture" if results[0].scores else "CPU time per picture"
    made.add_column("", no_wrap=True)
    for heading in ("SSIM", "MSE", "matched", "MSE", "equal", "p50 ms", "p99"):
        made.add_column(heading, justify="right", no_wrap=True)
    for each in results:
        scores, speed = [""] * 5, ["", ""]
        if each.scores is not None:
            form = ("{:.3f}", "{:.4f}", "{:.3f}", "{:.4f}", "{:.3f}")
            scores = [f.format(value) for f, value in zip(form, msgspec.structs.astuple(each.scores), strict=True)]
        if each.events:
            speed = [f"{each.p50_ms:.2f}", f"{each.p99_ms:.2f}"]
        made.add_row(each.engine, *scores, *speed)
    return made
