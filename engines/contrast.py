"""The contrast thresholds of an event camera, estimated from blurred pictures and the events inside their exposures.

A blurred picture B fixes the sharp ones only up to the thresholds: log L(f) = log B - R(f), where R(f), the log of the
mean over the exposure by the value at f, grows with them. But the sharp pictures of two instants of one exposure show
the same scene, moved. So in a small block, with x2 where at f2 is what was at x1 at f1,

    log B(x1) - log B(x2) = R(f1, x1) - R(f2, x2),

and the thresholds are the regression of the left on the right: linear after one Newton step, one equation per pixel, on
and off apart. The movement comes from R alone (phase correlation of the high frequencies, which B hardly has), and so
needs no thresholds. What a sharp picture should look like is nowhere assumed: no sharpness, sparsity or total variation
(Pan et al. search for the least total variation, which on texture is found at thresholds far too small).
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from engines.constancy import busy, fit_block, gather, probe
from engines.integral import RAMP, factors, intervals
from rtpipe.types import Array

BLOCK = 48
"""Side of a block in pixels: in it the movement is one shift."""

BLOCKS = 6
"""Blocks looked at per picture: those with most events."""

SPANS = ((0.25, 0.75), (0.1, 0.5), (0.5, 0.9))
"""Pairs of instants, as parts of the exposure; one pair per picture, in turn."""

LOWEST, HIGHEST = 0.02, 1.2
"""Thresholds are kept between these."""

STEP = 0.1
"""Relative step of the numerical derivative."""

VOTES = 60.0
"""Blocks remembered: older ones fade as new ones come, and only then."""

SETTLED = 24.0
"""Votes after which only every fourth picture is looked at."""

SHORTEST = 1.5
"""Pixels a block must have moved: over less, what stays below the thresholds weighs too much."""

EXPLAINED = 0.5
"""Share of the difference between the blurred pictures that a block's events must explain."""


class Contrast:
    """The running estimate. It depends on the sequence of exposures alone, so live and offline agree bit for bit."""

    def __init__(self, prior: float) -> None:
        self._prior = prior
        self._hann = cv2.createHanningWindow((BLOCK, BLOCK), cv2.CV_32F)
        n = BLOCKS * BLOCK * BLOCK
        self._state = np.empty((n, 7))
        self._tags = np.empty(n, np.uint8)
        self._at = np.empty((2, 3, n))
        self._probed = np.empty((2, 3, n), np.float32)
        self._planes = np.empty((BLOCK, BLOCK, 7), np.float32)
        self._rows = np.empty((BLOCK * BLOCK, 4))
        self._slots = np.empty(0, np.int32)
        self.reset()

    def reset(self) -> None:
        """Forget everything but the prior."""
        self.on = self.off = self._prior
        """The thresholds as known now, in log intensity per event."""
        self.votes = 0.0
        """How many blocks, at most ``VOTES``, they rest on; 0: on the prior alone."""
        self._pictures = 0
        self._matrix = np.zeros((2, 2))
        self._right = np.zeros(2)
        self._balance = np.zeros(2)  # on and off events per pixel

    def warm(self) -> None:
        """Compile, on a few made-up events; forgets what was known."""
        side = 2 * BLOCK
        random = np.random.default_rng(0)
        columns = [np.sort(random.integers(0, 1000, 8000)).astype(np.uint32)]
        columns += [random.integers(0, side, 8000).astype(np.uint16) for _ in range(2)]
        for column in columns:
            column.flags.writeable = False
        self.update(columns[0], columns[1], columns[2], 0, 1000, np.zeros((side, side), np.float32))
        fit_block(self._planes, 2.0, 0.0, self._rows, np.empty(7))
        self.reset()

    def update(self, dt: Array, x: Array, yp: Array, offset: int, length: int, logs: Array) -> None:
        """Learn from one exposure: packed columns, ``offset`` µs from its start to theirs, its length in µs and the log
        of the blurred picture, float32 (H, W). Coordinates must have been checked."""
        turn = self._pictures
        self._pictures += 1
        if self.votes >= SETTLED and turn % 4:
            return
        height, width = logs.shape
        corners = self._choose(dt, x, yp, offset, length, width, height)
        if not corners:
            return
        matrix, right, balance = self._matrix.copy(), self._right.copy(), self._balance
        for _ in range(2 if self.votes < SETTLED / 4 else 1):  # far from the truth one Newton step is not enough
            self._matrix, self._right, self._balance = matrix.copy(), right.copy(), balance
            self._learn(dt, x, yp, offset, length, logs, corners, SPANS[turn % len(SPANS)])

    def _choose(
        self, dt: Array, x: Array, yp: Array, offset: int, length: int, width: int, height: int
    ) -> list[tuple[int, int]]:
        """Corners (y, x) of the busiest blocks on a half-block grid, at least half a block apart."""
        cell = BLOCK // 2
        cells = np.empty((-(-height // cell), -(-width // cell)), np.int64)
        busy(dt, x, yp, offset, length, cells, cell)
        cells = cells[: height // cell, : width // cell]
        score = cells[:-1, :-1] + cells[1:, :-1] + cells[:-1, 1:] + cells[1:, 1:]
        chosen: list[tuple[int, int]] = []
        for best in np.argsort(-score, axis=None, kind="stable"):
            j, i = divmod(int(best), score.shape[1])
            if len(chosen) == BLOCKS or score[j, i] < 0.3 * BLOCK * BLOCK:
                break
            if all(abs(j - b) + abs(i - a) > 1 for b, a in chosen):
                chosen.append((j, i))
        return [(j * cell, i * cell) for j, i in chosen]

    def _learn(
        self,
        dt: Array,
        x: Array,
        yp: Array,
        offset: int,
        length: int,
        logs: Array,
        corners: list[tuple[int, int]],
        span: tuple[float, float],
    ) -> None:
        height, width = logs.shape
        if self._slots.size != height * width:
            self._slots = np.empty(height * width, np.int32)
        self._slots.fill(-1)
        plane = self._slots.reshape(height, width)
        for y, x0 in corners:
            plane[y : y + BLOCK, x0 : x0 + BLOCK] = 0
        chosen = np.flatnonzero(self._slots == 0)
        self._slots[chosen] = np.arange(chosen.size)
        n = chosen.size
        pairs = ((self.on, self.off), (self.on * (1 + STEP), self.off), (self.on, self.off * (1 + STEP)))
        steps = np.array([factors(on, off, RAMP)[::-1] for on, off in pairs])
        tables = np.stack([intervals(on, off, RAMP) for on, off in pairs])
        instants = np.array(span) * length
        counts = probe(
            dt,
            x,
            yp,
            offset,
            length,
            width,
            self._slots,
            steps,
            tables,
            instants,
            self._state[:n],
            self._tags[:n],
            self._at,
            self._probed,
        )  # fmt: skip  (whole arrays: a slice of them would be of another type when it is short, and compile anew)
        now = np.array([self.on, self.off])
        fit = np.empty(7)
        for y, x0 in corners:
            gather(logs, self._slots, self._probed, y, x0, now * STEP, self._planes)
            planes = self._planes
            sharp = cv2.GaussianBlur(planes[..., 1:3], (5, 5), 0.8) - cv2.blur(planes[..., 1:3], (9, 9))
            (dx, dy), _ = cv2.phaseCorrelate(sharp[..., 0].copy(), sharp[..., 1].copy(), self._hann)
            moved = math.hypot(dx, dy)
            if not SHORTEST <= moved <= BLOCK / 3:
                continue
            planes = cv2.GaussianBlur(planes, (7, 7), 1.2) - cv2.blur(planes, (17, 17))
            fit_block(planes, dx, dy, self._rows, fit)
            self._vote(fit, now, min(1.0, (moved / 4) ** 2))
        self._balance = self._balance + np.array(counts) / n
        self._solve()

    def _vote(self, fit: Array, now: Array, trust: float) -> None:
        if fit[5] < EXPLAINED or fit[6] <= 0:
            return
        matrix = np.array([[fit[0], fit[1]], [fit[1], fit[2]]])
        right = fit[3:5] + matrix @ now
        common = (right[0] + right[1]) / fit[6]
        if not LOWEST < common < HIGHEST:
            return
        far = math.log(common / now.mean()) / 0.5 if self.votes > 8 else 0.0
        weight = trust * fit[6] / (fit[6] + 100) / (1 + far * far) / float(np.trace(matrix))
        self._matrix += weight * matrix
        self._right += weight * right

    def _solve(self) -> None:
        self.votes = float(np.trace(self._matrix))
        if self.votes > VOTES:
            self._matrix *= VOTES / self.votes
            self._right *= VOTES / self.votes
            self.votes = VOTES
        # Light comes and goes: in the long run the on and off steps of busy pixels cancel. Until then: they are alike.
        events = float(self._balance.sum())
        rule = (self._balance + 3) / (events + 6) * np.array([1.0, -1.0])
        weight = min(0.5 + 0.01 * events * events, VOTES)
        alike = 2 * weight * np.outer(rule, rule)
        pull = 0.25 * np.eye(2)
        on, off = np.linalg.solve(self._matrix + alike + pull, self._right + 0.25 * self._prior)
        self.on = float(min(max(on, LOWEST), HIGHEST))
        self.off = float(min(max(off, LOWEST), HIGHEST))
