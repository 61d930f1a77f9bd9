"""The report as one picture: what the camera saw, what it sent over time, and what was found."""

from __future__ import annotations

import cv2
import numpy as np

from rtpipe.selftest.result import Report
from rtpipe.selftest.run import SIGNS, about, summary
from rtpipe.selftest.sample import Sample
from rtpipe.types import Array, Events

WIDTH, PANEL = 1280, (400, 300)
MARGIN, LINE = 20, 22
WHITE, GREY = (255, 255, 255), (120, 120, 120)
COLOURS = {"passed": (40, 130, 20), "noted": (0, 130, 210), "failed": (30, 30, 210), "skipped": GREY}
"""BGR."""
WINDOW_US = 30_000
"""Of the events that are drawn."""


def draw(report: Report, sample: Sample) -> Array:
    """A picture, uint8 BGR (H, 1280, 3)."""
    lines = [_wrapped(f"{SIGNS[each.state].strip():7s} {each.check}: {each.says}") for each in report.results]
    height = MARGIN * 4 + PANEL[1] + LINE * (4 + sum(map(len, lines))) + MARGIN
    canvas = np.full((height, WIDTH, 3), 255, np.uint8)
    camera = about(report.camera) or report.driver
    _text(canvas, camera[:140], MARGIN, MARGIN + 10, (0, 0, 0), 0.6)
    where = f"{report.when}  rtpipe {report.rtpipe}  {report.machine}"
    _text(canvas, where, MARGIN, MARGIN + 10 + LINE, GREY)
    top = MARGIN * 2 + LINE * 2
    events = sample.events
    panels = [("events, 30 ms", _events(events, sample)), ("events per ms", _rates(sample))]
    if sample.frames:
        panels.insert(1, ("picture", _fit(_bgr(sample.frames[len(sample.frames) // 2].image))))
    else:
        panels.insert(1, ("where events came from", _heat(sample)))
    for number, (title, panel) in enumerate(panels):
        x = MARGIN + number * (PANEL[0] + MARGIN)
        canvas[top : top + PANEL[1], x : x + PANEL[0]] = panel
        _text(canvas, title, x, top - 6, GREY)
    y = top + PANEL[1] + MARGIN + 10
    for result, wrapped in zip(report.results, lines, strict=True):
        for text in wrapped:
            _text(canvas, text, MARGIN, y, COLOURS[result.state])
            y += LINE
    _text(canvas, summary(report), MARGIN, y + 8, (0, 0, 0), 0.55)
    return canvas


def _events(events: Events, sample: Sample) -> Array:
    """The busiest 30 ms: on red, off blue."""
    width, height = sample.resolution
    image = np.full((height, width, 3), 255, np.uint8)
    if len(events):
        edges = np.arange(int(events.t[0]), int(events.t[-1]) + WINDOW_US + 1, WINDOW_US)
        starts = np.searchsorted(events.t, edges)
        busiest = int(np.diff(starts).argmax()) if len(starts) > 1 else 0
        shown = events[int(starts[busiest]) : int(starts[min(busiest + 1, len(starts) - 1)])]
        inside = (shown.x < width) & (shown.y < height)
        x, y, on = shown.x[inside], shown.y[inside], shown.p[inside] > 0
        image[y[~on], x[~on]] = (200, 80, 30)
        image[y[on], x[on]] = (40, 40, 210)
    return _fit(image)


def _heat(sample: Sample) -> Array:
    counts = np.log1p(sample.counts().astype(np.float32))
    most = float(counts.max()) or 1.0
    return _fit(cv2.applyColorMap((counts / most * 255).astype(np.uint8), cv2.COLORMAP_INFERNO))


def _rates(sample: Sample) -> Array:
    """Events per millisecond over the sample, as columns."""
    width, height = PANEL
    image = np.full((height, width, 3), 255, np.uint8)
    arrivals = [arrival for arrival in sample.of("events") if arrival.n]
    if not arrivals:
        return image
    t0, t1 = arrivals[0].t_first, arrivals[-1].t_last
    span = max(t1 - t0, 1)
    columns = np.zeros(width)
    for arrival in arrivals:
        columns[min((arrival.t_last - t0) * width // span, width - 1)] += arrival.n
    per_ms = columns * width / (span / 1000)
    most = float(per_ms.max()) or 1.0
    for x, value in enumerate(per_ms):
        cv2.line(image, (x, height - 1), (x, height - 1 - round(value / most * (height - 30))), (180, 120, 60), 1)
    _text(image, f"most {most:,.0f} per ms over {span / 1e6:.1f} s", 8, 18, GREY)
    return image


def _bgr(image: Array) -> Array:
    if image.dtype != np.uint8:
        image = (image >> 8).astype(np.uint8)
    return image if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)


def _fit(image: Array) -> Array:
    """Into a panel, its shape kept."""
    height, width = image.shape[:2]
    factor = min(PANEL[0] / width, PANEL[1] / height)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST)
    panel = np.full((PANEL[1], PANEL[0], 3), 235, np.uint8)
    y, x = (PANEL[1] - size[1]) // 2, (PANEL[0] - size[0]) // 2
    panel[y : y + size[1], x : x + size[0]] = small
    return panel


def _wrapped(text: str, most: int = 150) -> list[str]:
    lines = []
    while len(text) > most:
        cut = text.rfind(" ", 0, most)
        cut = most if cut < most // 2 else cut
        lines.append(text[:cut])
        text = f"        {text[cut:].strip()}"
    return [*lines, text]


def _text(image: Array, text: str, x: int, y: int, colour: tuple[int, int, int], size: float = 0.47) -> None:
    plain = text.replace("µ", "u").replace("²", "2").replace("…", "...").encode("ascii", "replace").decode()
    cv2.putText(image, plain, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)
