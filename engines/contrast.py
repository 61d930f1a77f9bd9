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

from engines.integral import RAMP, intervals
from rtpipe.kernels import kernel
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


@kernel()
def _busy(dt: Array, x: Array, yp: Array, offset: int, length: int, cells: Array, cell: int) -> None:
    cells[:] = 0
    origin = np.int64(offset)
    for i in range(dt.size):
        now = origin + np.int64(dt[i])
        if 0 <= now < length:
            cells[(np.int64(yp[i]) & 0x7FFF) // cell, np.int64(x[i]) // cell] += 1


@kernel()
def _probe(
    dt: Array,
    x: Array,
    yp: Array,
    offset: int,
    length: int,
    width: int,
    slots: Array,
    steps: Array,
    tables: Array,
    instants: Array,
    state: Array,
    tags: Array,
    at: Array,
    out: Array,
) -> tuple[int, int]:
    """R of both instants (``out`` float32 (2, 3, n)) for three pairs of thresholds at once, in the pixels with a slot.

    Returns the numbers of on and off events in these pixels.
    """
    n = out.shape[2]
    counts = np.zeros(2, np.int64)
    for q in range(n):
        state[q, 0] = 0.0
        tags[q] = 0
        for j in range(3):
            state[q, 1 + j] = 1.0
            state[q, 4 + j] = 0.0
    origin = np.int64(offset)
    for i in range(dt.size):
        now = origin + np.int64(dt[i])
        if now < 0:
            continue
        if now >= length:
            break
        packed = np.int64(yp[i])
        q = np.int64(slots[(packed & 0x7FFF) * width + np.int64(x[i])])
        if q < 0:
            continue
        polarity = packed >> 15
        row = 3 * np.int64(tags[q]) + 1 + polarity
        counts[polarity] += 1
        since = state[q, 0]
        t = np.float64(now)
        for k in range(2):
            f = instants[k]
            if since <= f < t:
                u = (f - since) / (t - since)
                for j in range(3):
                    at[k, j, q] = state[q, 1 + j] * np.exp(u * (tables[j, row, 1] + u * tables[j, row, 2]))
        for j in range(3):
            state[q, 4 + j] += state[q, 1 + j] * tables[j, row, 0] * (t - since)
            state[q, 1 + j] *= steps[j, polarity]
        state[q, 0] = t
        tags[q] = 1 + polarity
    for q in range(n):
        row = 3 * np.int64(tags[q])
        since = state[q, 0]
        rest = length - since
        for k in range(2):
            f = instants[k]
            if f >= since:
                u = (f - since) / rest
                for j in range(3):
                    at[k, j, q] = state[q, 1 + j] * np.exp(u * (tables[j, row, 1] + u * tables[j, row, 2]))
        for j in range(3):
            total = state[q, 4 + j] + state[q, 1 + j] * tables[j, row, 0] * rest
            for k in range(2):
                out[k, j, q] = np.log(total / (length * at[k, j, q]))
    return counts[1], counts[0]


@kernel()
def _gather(logs: Array, slots: Array, probed: Array, y0: int, x0: int, steps: Array, planes: Array) -> None:
    """Fill ``planes`` float32 (S, S, 7) of one block: log B, then R and its derivatives by on and off, at f1 and f2."""
    side = planes.shape[0]
    width = logs.shape[1]
    for y in range(side):
        for x in range(side):
            q = slots[(y0 + y) * width + x0 + x]
            planes[y, x, 0] = logs[y0 + y, x0 + x]
            for k in range(2):
                planes[y, x, 1 + k] = probed[k, 0, q]
                for j in range(2):
                    planes[y, x, 3 + 2 * j + k] = (probed[k, 1 + j, q] - probed[k, 0, q]) / steps[j]


@kernel()
def _fit(planes: Array, dx: float, dy: float, rows: Array, fit: Array) -> None:
    """Regress one block, moved by ``dx``, ``dy`` from f1 to f2; ``planes`` as :func:`_gather` fills them, filtered.

    ``fit``: m00, m01, m11 (normal matrix), v0, v1 (right side), share explained by a common step, energy.
    """
    side = planes.shape[0]
    rim = 4 + math.ceil(max(abs(dx), abs(dy)) / 2)
    n = 0
    for y in range(rim, side - rim):
        for x in range(rim, side - rim):
            value = np.zeros(4)
            for which in range(2):
                sign = 1.0 if which else -1.0
                fy = y + sign * dy / 2
                fx = x + sign * dx / 2
                j = math.floor(fy)
                i = math.floor(fx)
                b = fy - j
                a = fx - i
                for c in range(4):
                    k = 0 if c == 0 else 2 * c - 1 + which
                    top = (1 - a) * planes[j, i, k] + a * planes[j, i + 1, k]
                    low = (1 - a) * planes[j + 1, i, k] + a * planes[j + 1, i + 1, k]
                    value[c] -= sign * ((1 - b) * top + b * low)
            rows[n, 0] = value[0]
            rows[n, 1] = value[0] - value[1]
            rows[n, 2] = value[2]
            rows[n, 3] = value[3]
            n += 1
    fit[:] = 0.0
    if n == 0:
        return
    common = 0.0
    for again in range(4):
        spread = 0.0
        for i in range(n):
            spread += abs(rows[i, 1] - common * (rows[i, 2] + rows[i, 3]))
        spread = max(2.5 * spread / n, 1e-3)
        fit[:5] = 0.0
        for i in range(n):
            off = (rows[i, 1] - common * (rows[i, 2] + rows[i, 3])) / spread
            w = 1.0 / (1.0 + off * off) ** 2 if again else 1.0
            fit[0] += w * rows[i, 2] * rows[i, 2]
            fit[1] += w * rows[i, 2] * rows[i, 3]
            fit[2] += w * rows[i, 3] * rows[i, 3]
            fit[3] += w * rows[i, 2] * rows[i, 1]
            fit[4] += w * rows[i, 3] * rows[i, 1]
        common = (fit[3] + fit[4]) / max(fit[0] + 2 * fit[1] + fit[2], 1e-9)
    left = 0.0
    whole = 1e-9
    for i in range(n):
        left += (rows[i, 1] - common * (rows[i, 2] + rows[i, 3])) ** 2
        whole += rows[i, 0] ** 2
    fit[5] = 1.0 - left / whole
    fit[6] = fit[0] + 2 * fit[1] + fit[2]


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
        for _ in range(3 if self.votes < SETTLED / 4 else 1):  # far from the truth one Newton step is not enough
            self._matrix, self._right, self._balance = matrix.copy(), right.copy(), balance
            self._learn(dt, x, yp, offset, length, logs, corners, SPANS[turn % len(SPANS)])

    def _choose(
        self, dt: Array, x: Array, yp: Array, offset: int, length: int, width: int, height: int
    ) -> list[tuple[int, int]]:
        """Corners (y, x) of the busiest blocks on a half-block grid, at least half a block apart."""
        cell = BLOCK // 2
        cells = np.empty((-(-height // cell), -(-width // cell)), np.int64)
        _busy(dt, x, yp, offset, length, cells, cell)
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
        steps = np.array([[math.exp(-off), math.exp(on)] for on, off in pairs])
        tables = np.stack([intervals(on, off, RAMP) for on, off in pairs])
        instants = np.array(span) * length
        probed = self._probed[:, :, :n]
        counts = _probe(
            dt, x, yp, offset, length, width, self._slots, steps, tables, instants,
            self._state[:n], self._tags[:n], self._at[:, :, :n], probed,
        )  # fmt: skip
        now = np.array([self.on, self.off])
        fit = np.empty(7)
        for y, x0 in corners:
            _gather(logs, self._slots, probed, y, x0, now * STEP, self._planes)
            planes = self._planes
            sharp = cv2.GaussianBlur(planes[..., 1:3], (5, 5), 0.8) - cv2.blur(planes[..., 1:3], (9, 9))
            (dx, dy), _ = cv2.phaseCorrelate(sharp[..., 0].copy(), sharp[..., 1].copy(), self._hann)
            moved = math.hypot(dx, dy)
            if not SHORTEST <= moved <= BLOCK / 3:
                continue
            planes = cv2.GaussianBlur(planes, (7, 7), 1.2) - cv2.blur(planes, (17, 17))
            _fit(planes, dx, dy, self._rows, fit)
            self._vote(fit, now, min(1.0, (moved / 4) ** 2))
        self._balance = self._balance + np.array(counts) / n
        self._solve()

    def _vote(self, fit: Array, now: Array, trust: float) -> None:
        if fit[5] < EXPLAINED:
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
