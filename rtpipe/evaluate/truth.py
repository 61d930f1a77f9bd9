"""Scores of an engine's frames against the sharp truth that came with a recording."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import msgspec

from rtpipe.errors import InputError
from rtpipe.evaluate import metrics
from rtpipe.formats import open_recording
from rtpipe.types import Array, Frame

TOLERANCE_US = 1000
"""Two frames show the same instant if their times differ by at most this."""


class FrameScore(msgspec.Struct, frozen=True):
    """One instant: how alike the camera's frame (in) and the engine's (out) are to the truth. PSNR in dB."""

    t: int
    """The truth's instant, µs."""
    psnr_in: float
    psnr_out: float
    ssim_in: float
    ssim_out: float

    @property
    def gain_db(self) -> float:
        """By how much the output beats the input; 0 where both are equal, even where both are perfect."""
        return 0.0 if self.psnr_out == self.psnr_in else self.psnr_out - self.psnr_in


class Scores(msgspec.Struct, frozen=True):
    """Means over the instants that were scored, and each of them. PSNR in dB."""

    psnr_in: float
    psnr_out: float
    ssim_in: float
    ssim_out: float
    gain_db: float
    """Mean of ``psnr_out - psnr_in``."""
    missing: int
    """Instants with a truth and a camera's frame for which no output came: not in the means."""
    frames: tuple[FrameScore, ...]


class Triple(NamedTuple):
    """What belongs to one instant."""

    frame: Frame
    output: Frame | None
    truth: Frame | None


def score(recording: str | Path, outputs: Iterable[Frame], tolerance_us: int = TOLERANCE_US) -> Scores:
    """Score ``outputs`` and the camera's frames of ``recording`` against its truth, matched by time.

    ``outputs`` must be in order of time (``ValueError`` otherwise) and are consumed one by one. Grey and colour are
    compared in grey. Raises ``InputError`` where the recording has no truth, no output meets one, or sizes differ.
    """
    scored: list[FrameScore] = []
    truths = missing = 0
    for frame, output, truth in triples(recording, outputs, tolerance_us):
        if truth is None:
            continue
        truths += 1
        if output is None:
            missing += 1
            continue
        scored.append(_score(recording, frame, output, truth))
    if not truths:
        raise InputError(f"{recording}: holds no sharp pictures to score against")
    if not scored:
        raise InputError(f"{recording}: none of the outputs shows an instant ({tolerance_us} µs) of its sharp pictures")
    n = len(scored)
    return Scores(
        psnr_in=sum(s.psnr_in for s in scored) / n,
        psnr_out=sum(s.psnr_out for s in scored) / n,
        ssim_in=sum(s.ssim_in for s in scored) / n,
        ssim_out=sum(s.ssim_out for s in scored) / n,
        gain_db=sum(s.gain_db for s in scored) / n,
        missing=missing,
        frames=tuple(scored),
    )


def triples(recording: str | Path, outputs: Iterable[Frame], tolerance_us: int = TOLERANCE_US) -> Iterator[Triple]:
    """Each camera frame of ``recording`` with the output and the truth nearest to its instant, None where there is
    none within ``tolerance_us``. Constant memory; errors as for :func:`score`."""
    with open_recording(recording) as opened:
        found = _Nearest(outputs, tolerance_us, "outputs")
        sharp = _Nearest(opened.truth(), tolerance_us, f"{recording}: sharp pictures")
        for frame in opened.frames():
            yield Triple(frame, found.to(frame.t), sharp.to(frame.t))


class _Nearest:
    """Finds in a stream of frames, in order of time, those nearest to instants that are asked for in order."""

    def __init__(self, frames: Iterable[Frame], tolerance_us: int, name: str) -> None:
        self._frames = iter(frames)
        self._tolerance = tolerance_us
        self._name = name
        self._kept: list[Frame] = []
        self._newest = -math.inf

    def to(self, t: int) -> Frame | None:
        self._kept = [frame for frame in self._kept if frame.t >= t - self._tolerance]
        while self._newest <= t + self._tolerance:
            frame = next(self._frames, None)
            if frame is None:
                break
            if frame.t < self._newest:
                raise ValueError(f"{self._name}: not in order of time at {frame.t} µs")
            self._newest = frame.t
            if frame.t >= t - self._tolerance:
                self._kept.append(frame)
        near = min(self._kept, key=lambda frame: abs(frame.t - t), default=None)
        return near if near is not None and abs(near.t - t) <= self._tolerance else None


def _score(recording: str | Path, frame: Frame, output: Frame, truth: Frame) -> FrameScore:
    pictures = [frame.image, output.image, truth.image]
    if len({picture.ndim for picture in pictures}) > 1:
        pictures = [grey(picture) for picture in pictures]
    before, after, sharp = pictures
    if before.shape != sharp.shape or after.shape != sharp.shape or {p.dtype.name for p in pictures} != {"uint8"}:
        kinds = ", ".join(f"{p.dtype} {p.shape}" for p in pictures)
        raise InputError(f"{recording}: at {truth.t} µs frame, output and truth differ in size or kind ({kinds})")
    return FrameScore(
        truth.t,
        metrics.psnr(before, sharp),
        metrics.psnr(after, sharp),
        metrics.ssim(before, sharp),
        metrics.ssim(after, sharp),
    )


def grey(picture: Array) -> Array:
    """(H, W) of a picture that is (H, W) or (H, W, 3) BGR."""
    converted: Array = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) if picture.ndim == 3 else picture
    return converted
