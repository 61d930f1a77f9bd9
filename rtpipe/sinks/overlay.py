"""What is written over the pictures on the screen: numbers along the bottom, state at the top, the keys on demand."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from rtpipe.sinks.layout import STRIP, fitting_scale, text_width, write
from rtpipe.types import Array, Counters

LINE = 20
"""Height of a line of text, in pixels."""
USUAL = (1600, 900)
"""A picture larger than this is shown smaller: ``(width, height)`` of what fits a usual screen."""
WHITE, AMBER, RED = (235, 235, 235), (60, 180, 255), (60, 60, 255)

KEYS_HELP = (
    ("q, Esc", "stop"),
    ("space", "pause, go on"),
    (".", "one step"),
    ("left, right", "1 s back, 1 s on"),
    ("l", "live again after a rewind"),
    ("k", "keep: save what just happened"),
    ("- +", "half, double speed"),
    ("r", "recording on, off"),
    ("s", "save a snapshot"),
    ("p", "next layout of the panels"),
    ("o", "numbers on, off"),
    ("h", "this help"),
)


class Meter:
    """How fast and how late pictures reach the screen, over the last few seconds, and what was lost on the way."""

    def __init__(self, span_ns: int = 3_000_000_000) -> None:
        self._span = span_ns
        self._shown: deque[tuple[int, int, int]] = (
            deque()
        )  # when, how late since arrival, since the sensor (-1: unknown)
        self._lost: dict[str, Mapping[str, int]] = {}

    def shown(self, now_ns: int, received_ns: int, sensed_ns: int = 0) -> None:
        """A picture is on the screen; ``received_ns`` is when its data reached this host, ``sensed_ns`` when, on this
        host's clock, the instant was that it shows; 0 where unknown."""
        late, since = (now_ns - each if each else -1 for each in (received_ns, sensed_ns))
        self._shown.append((now_ns, late, since))
        self._trim(now_ns)

    def counted(self, stream: str, counters: Counters) -> None:
        """The cumulative counters that the newest packet of a stream carries."""
        self._lost[stream] = {reason: count.packets for reason, count in counters.dropped.items() if count.packets}

    def line(self, now_ns: int, own_drops: Mapping[str, int]) -> str:
        """``shown 29.9/s   latency p50 4.1 ms, p99 9.0 ms   not shown: latest 12``."""
        self._trim(now_ns)
        words = [f"shown {len(self._shown) / (self._span / 1e9):.1f}/s"]
        for name, column in (("latency", 1), ("from the sensor", 2)):
            late = [each[column] / 1e6 for each in self._shown if each[column] >= 0]
            if late:
                p50, p99 = np.percentile(late, [50, 99])
                words.append(f"{name} p50 {p50:.1f} ms, p99 {p99:.1f} ms")
        lost: dict[str, int] = dict(own_drops)
        for of_stream in self._lost.values():
            for reason, n in of_stream.items():
                lost[reason] = lost.get(reason, 0) + n
        if lost:
            words.append("not shown: " + ", ".join(f"{reason} {n}" for reason, n in sorted(lost.items())))
        return "   ".join(words)

    def _trim(self, now_ns: int) -> None:
        while self._shown and self._shown[0][0] < now_ns - self._span:
            self._shown.popleft()


def _shade(area: Array, share: float = 0.3) -> None:
    area[:] = cv2.convertScaleAbs(area, alpha=share)


def _write_fitting(image: Array, text: str, at: tuple[int, int], colour: tuple[int, int, int], scale: float) -> None:
    room = image.shape[1] - at[0] - 6
    scale = max(0.3, fitting_scale(text, room, scale))
    while text and text_width(text, scale) > room:
        text = text[:-1]
    write(image, text, at, colour, scale)


def draw_lines(image: Array, lines: Sequence[str], message: str = "") -> None:
    """Write ``lines`` along the bottom of ``image`` (uint8 (H, W, 3) BGR, in place), then ``message`` in amber."""
    texts = [(line, WHITE) for line in lines if line] + ([(message, AMBER)] if message else [])
    larger = max(1.0, image.shape[1] / USUAL[0], image.shape[0] / USUAL[1])  # it will be shrunk to fit the screen
    top = max(0, image.shape[0] - round(larger * (LINE * len(texts) + 6)))
    if texts:
        _shade(image[top:])
    for index, (text, colour) in enumerate(texts):
        _write_fitting(image, text, (6, top + round(larger * (LINE * (index + 1) - 3))), colour, 0.5 * larger)


def draw_state(image: Array, paused: bool, recording: bool, rewound_s: float | None = None) -> None:
    """Mark the top right corner of ``image`` (in place) while paused, recording or rewound (so many seconds)."""
    x = image.shape[1] - 8
    back = f"REWIND -{rewound_s or 0:.1f} s"
    for text, on, colour in (("REC", recording, RED), ("PAUSED", paused, AMBER), (back, rewound_s is not None, AMBER)):
        if on:
            x -= text_width(text) + 12
            write(image, text, (x, STRIP - 7), colour)
            if text == "REC":
                cv2.circle(image, (x - 9, STRIP - 12), 5, colour, -1, cv2.LINE_AA)
                x -= 14


def draw_help(image: Array) -> None:
    """Write what the keys do over the middle of ``image`` (in place)."""
    column = max(text_width(keys) for keys, _ in KEYS_HELP) + 20
    width = column + max(text_width(words) for _, words in KEYS_HELP) + 24
    height = LINE * len(KEYS_HELP) + 20
    x, y = max(0, (image.shape[1] - width) // 2), max(0, (image.shape[0] - height) // 2)
    _shade(image[y : y + height, x : x + width], 0.2)
    for index, (keys, words) in enumerate(KEYS_HELP):
        baseline = y + LINE * (index + 1)
        write(image, keys, (x + 12, baseline), AMBER)
        write(image, words, (x + 12 + column, baseline), WHITE)
