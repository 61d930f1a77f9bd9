"""A contact sheet: what came in, what went out and what was true, side by side, with numbers under the pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from rtpipe.errors import InputError, WorldError
from rtpipe.evaluate import metrics
from rtpipe.evaluate.truth import TOLERANCE_US, Triple, grey, triples
from rtpipe.formats import open_recording
from rtpipe.types import Array, Events, Frame, Resolution
from rtpipe.window.count import event_count
from rtpipe.window.picture import Painter

_PAPER, _INK, _FAINT = (255, 255, 255), (32, 32, 32), (128, 128, 128)
_GAP, _MARGIN, _LINE = 10, 16, 22
_NARROWEST = 300  # pictures are enlarged by whole numbers until they are so wide that the captions fit
_DRAWN_US = 8000  # of events about the instant: more would cover the picture


def contact_sheet(
    recording: str | Path,
    outputs: Iterable[Frame],
    path: str | Path,
    *,
    rows: int = 4,
    events: bool = True,
    tolerance_us: int = TOLERANCE_US,
) -> Path:
    """Write a PNG with ``rows`` instants spread over ``recording``: the camera's frame, the engine's output, the truth
    where the recording has one, and with ``events`` a drawing of the events about the instant. Returns its path.

    Under frame and output stand PSNR and SSIM against the truth, or, without one, the gradient energy. ``outputs`` as
    for :func:`rtpipe.evaluate.truth.score`. Raises ``InputError`` where no output belongs
    to a frame, ``WorldError`` where the file cannot be written.
    """
    with open_recording(recording) as opened:
        first, last = opened.t_start, opened.t_end
        wanted = [first + (2 * i + 1) * (last - first) // (2 * rows) for i in range(rows)]
        chosen = _spread(triples(recording, outputs, tolerance_us), wanted)
        if not chosen:
            raise InputError(f"{recording}: none of the outputs shows an instant ({tolerance_us} µs) of its frames")
        drawings: list[Array] = []
        if events:
            half = _DRAWN_US // 2
            instants = [triple.frame.t for triple in chosen]
            drawings = [draw_events(opened.events(t - half, t + half), opened.resolution) for t in instants]
    picture = lay_out(chosen, drawings)
    encoded, data = cv2.imencode(".png", picture)
    if not encoded:
        raise WorldError(f"{path}: the contact sheet cannot be encoded as PNG")
    try:
        Path(path).write_bytes(data.tobytes())
    except OSError as error:
        raise WorldError(f"{path}: cannot be written: {error.strerror}") from error
    return Path(path)


def _spread(matched: Iterable[Triple], wanted: Sequence[int]) -> list[Triple]:
    """Of those with an output the one nearest to each wanted instant (µs), each once, in order."""
    best: dict[int, Triple] = {}
    for triple in matched:
        if triple.output is None:
            continue
        for t in wanted:
            if t not in best or abs(triple.frame.t - t) < abs(best[t].frame.t - t):
                best[t] = triple
    return list({triple.frame.t: triple for triple in best.values()}.values())


def lay_out(rows: Sequence[Triple], drawings: Sequence[Array] = ()) -> Array:
    """The sheet as a picture, uint8 (H, W, 3) BGR: one row for each triple (at least one), and of ``drawings`` (BGR,
    as many as rows, or none) the last column."""
    height, width = rows[0].frame.image.shape[:2]
    enlarge = max(1, -(-_NARROWEST // width))
    width, height = width * enlarge, height * enlarge
    made = next((row.output.source for row in rows if row.output is not None), "output")
    titles = ["blurred frame", f"output ({made})"]
    if any(row.truth is not None for row in rows):
        titles.append("truth")
    if drawings:
        titles.append("events")
    step_x, step_y = width + _GAP, height + 2 * _LINE
    sheet = np.full(
        (2 * _MARGIN + _LINE + len(rows) * step_y, 2 * _MARGIN + len(titles) * step_x - _GAP, 3), _PAPER, np.uint8
    )
    for column, title in enumerate(titles):
        _write(sheet, title, _MARGIN + column * step_x, _MARGIN + _LINE - 8, 0.6, _INK)
    for i, row in enumerate(rows):
        y = _MARGIN + _LINE + i * step_y
        cells = [(row.frame.image, _caption(row.frame, row)), (_shown(row.output), _caption(row.output, row))]
        if "truth" in titles:
            cells.append((_shown(row.truth), f"t = {row.frame.t * 1e-6:.3f} s" if row.truth is not None else ""))
        if drawings:
            cells.append((drawings[i], f"{_DRAWN_US / 1000:g} ms about the middle"))
        for column, (image, caption) in enumerate(cells):
            x = _MARGIN + column * step_x
            if image is not None:
                sheet[y : y + height, x : x + width] = _printed(image, (width, height))
            _write(sheet, caption, x, y + height + _LINE - 6, 0.5, _INK if column < 2 else _FAINT)
    return sheet


def draw_events(events: Events, resolution: Resolution) -> Array:
    """Events on white paper, uint8 (H, W, 3) BGR. Raises ``InputError`` for events that do not lie on the sensor."""
    return Painter("white").draw(event_count(events, resolution=resolution))


def _caption(frame: Frame | None, row: Triple) -> str:
    if frame is None:
        return ""
    if row.truth is None:
        return f"gradient energy {metrics.gradient_energy(frame.image):.0f}"
    image, truth = frame.image, row.truth.image
    if image.ndim != truth.ndim:
        image, truth = grey(image), grey(truth)
    return f"PSNR {metrics.psnr(image, truth):.1f} dB   SSIM {metrics.ssim(image, truth):.3f}"


def _shown(frame: Frame | None) -> Array | None:
    return None if frame is None else frame.image


def _printed(image: Array, size: tuple[int, int]) -> Array:
    """``image`` as BGR of this size; 16 bits shown by their upper eight."""
    eight = (image >> 8).astype(np.uint8) if image.dtype == np.uint16 else image
    colour = cv2.cvtColor(eight, cv2.COLOR_GRAY2BGR) if eight.ndim == 2 else eight
    scaled: Array = cv2.resize(colour, size, interpolation=cv2.INTER_NEAREST)
    return scaled


def _write(sheet: Array, text: str, x: int, y: int, scale: float, colour: tuple[int, int, int]) -> None:
    cv2.putText(sheet, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)
