"""A small camera of its own: a textured picture that moves, ideal events with unlike pixels, blurred frames."""

from dataclasses import dataclass

import cv2
import numpy as np

from rtpipe.packing import pack
from rtpipe.types import Array, Events, Frame, Window

OFFSET = 0.012 * 255
"""Dark current of the made-up pixels, in grey values."""


@dataclass
class Exposure:
    window: Window
    truth: Array

    @property
    def blurred(self) -> Array:
        assert self.window.frame is not None
        return self.window.frame.image


def picture(width: int, height: int, seed: int) -> Array:
    """Discs, bars and soft shading: edges of every direction and contrast, float32 8..240."""
    random = np.random.default_rng(seed)
    image = np.full((height, width), 120, np.float32)
    for _ in range(width * height // 250):
        x, y = random.integers(0, width), random.integers(0, height)
        grey, size = float(random.uniform(8, 240)), int(random.integers(3, 14))
        if random.random() < 0.5:
            cv2.circle(image, (int(x), int(y)), size, grey, -1)
        else:
            cv2.rectangle(image, (int(x), int(y)), (int(x) + size, int(y) + 2 * size), grey, -1)
    return cv2.GaussianBlur(image, (0, 0), 0.8)


def psnr(a: Array, b: Array) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2)))


def energy(image: Array) -> float:
    """Mean squared gradient (forward differences), grey values squared per pixel squared."""
    grey = image.astype(float).mean(axis=-1) if image.ndim == 3 else image.astype(float)
    return float(np.mean(np.diff(grey, axis=1)[:-1] ** 2 + np.diff(grey, axis=0)[:, :-1] ** 2))


def film(
    on: float = 0.2,
    off: float = 0.2,
    spread: float = 0.08,
    noise_hz: float = 1.0,
    frames: int = 6,
    size: tuple[int, int] = (160, 128),
    speed: float = 9.0,
    exposure: int = 20_000,
    t0: int = 0,
    seed: int = 0,
) -> list[Exposure]:
    """Exposures back to back, each moved by about ``speed`` pixels along a path that turns."""
    random = np.random.default_rng(seed)
    width, height = size
    margin = 48
    sheet = picture(width + 2 * margin, height + 2 * margin, seed)
    steps = 80
    phase = np.linspace(0, frames * 0.9, frames * steps + 1)
    path = np.stack([np.cumsum(np.cos(phase)), np.cumsum(np.sin(1.3 * phase))]) * speed / steps
    path = np.clip(path - path.mean(axis=1, keepdims=True), -margin + 2, margin - 2)

    def light(k: int) -> Array:
        move = np.array([[1, 0, margin + path[0, k]], [0, 1, margin + path[1, k]]])
        seen = cv2.warpAffine(sheet, move, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        return np.asarray(seen, np.float64)

    thresholds = [c * np.clip(1 + spread * random.standard_normal((height, width)), 0.5, 1.5) for c in (off, on)]
    before = np.log(light(0) + OFFSET)
    level = before + random.uniform(-0.5, 0.5, before.shape) * thresholds[0]
    dt = exposure / steps
    made = []
    for frame in range(frames):
        found: list[Array] = []
        total = np.zeros((height, width))
        truth = None
        for k in range(frame * steps, (frame + 1) * steps):
            if k == frame * steps + steps // 2:
                truth = light(k)
            now_light = light(k + 1)
            total += (light(k) + now_light) / 2
            now = np.log(now_light + OFFSET)
            for p, sign in ((0, -1), (1, 1)):
                while True:
                    y, x = np.nonzero(sign * (now - level) >= thresholds[p])
                    if not len(y):
                        break
                    level[y, x] += sign * thresholds[p][y, x]
                    moved = np.where(now == before, 1.0, now - before)[y, x]
                    part = (level[y, x] - before[y, x]) / moved
                    t = (k + np.clip(part, 0, 0.999)) * dt
                    found.append(np.stack([t, x, y, np.full(len(y), p)]))
            before = now
        stray = random.poisson(noise_hz * width * height * exposure * 1e-6)
        t = random.uniform(frame * exposure, (frame + 1) * exposure, stray)
        where = random.integers(0, width, stray), random.integers(0, height, stray), random.integers(0, 2, stray)
        rows = np.concatenate([*found, np.stack([t, *where])], axis=1)
        rows = rows[:, np.argsort(rows[0], kind="stable")].astype(np.int64)
        start, end = t0 + frame * exposure, t0 + (frame + 1) * exposure
        events = Events(rows[0] + t0, rows[1], rows[2], rows[3])
        blurred = np.clip(np.round(total / steps + random.normal(0, 0.7, total.shape)), 0, 255).astype(np.uint8)
        image = Frame(blurred, (start + end) // 2, start, end)
        assert truth is not None
        made.append(Exposure(Window(start, end, len(events), events=pack(events), frame=image), truth))
    return made
