"""Drawing pictures side by side: boxes of a fixed size with a title strip above each, in 8-bit BGR."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from rtpipe.types import Array, Resolution

STRIP = 24
"""Height of the title strip above each panel, in pixels."""
GAP = 2
"""Black pixels between two panels."""
STRIP_COLOUR = 40
_TITLE = (225, 225, 225)
_MARK = (60, 180, 255)
_FAINT = (130, 130, 130)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SPELLED = str.maketrans({"·": " ", "µ": "u", "±": "+-", "×": "x", "²": "2", "–": "-", "−": "-", "…": "..."})
_DEPTHS = (8, 10, 12, 14, 16)


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """What one panel shows: ``title``; ``marks``, anything the viewer must know (shown in amber); ``image`` uint8 or
    uint16, (H, W) or (H, W, 3) BGR, or None ("no frame"); ``size`` the panel's ``(width, height)`` in camera pixels
    where there is no image to tell it."""

    title: str
    marks: str = ""
    image: Array | None = None
    size: Resolution = (0, 0)


@dataclass(frozen=True, slots=True)
class Box:
    """Where a panel's picture goes on the canvas, in pixels; its strip lies right above."""

    x: int
    y: int
    width: int
    height: int


def write(image: Array, text: str, at: tuple[int, int], colour: tuple[int, int, int], scale: float = 0.5) -> int:
    """Draw one line of ``text`` in place, its baseline starting ``at`` (x, y); returns its width in pixels.

    OpenCV 4 knows ASCII alone: what lies beyond is spelled out or shown as a question mark.
    """
    text = text.translate(_SPELLED).encode("ascii", "replace").decode()
    cv2.putText(image, text, at, _FONT, scale, colour, 1, cv2.LINE_AA)
    return text_width(text, scale)


def text_width(text: str, scale: float = 0.5) -> int:
    """How wide :func:`write` draws ``text``, in pixels."""
    return int(cv2.getTextSize(text, _FONT, scale, 1)[0][0])


def fitting_scale(text: str, room: int, largest: float = 0.5) -> float:
    """The font scale, up to ``largest``, at which ``text`` is at most ``room`` pixels wide; not below 0.2.

    In steps of 0.05: OpenCV 5 takes milliseconds to make ready a size that it has not drawn before.
    """
    scale = min(largest, largest * room / max(1, text_width(text, largest)))
    return max(0.2, int(scale * 20) / 20)


class Layout:
    """Panels in a row (or in a column), each enlarged by a whole factor so that small sensors can be seen.

    Boxes are fixed by the first drawing: a later picture of another size is fitted into its box, its proportions
    kept. Canvas width and height are even, as H.264 in yuv420p needs. 16-bit pictures are shown by their top 8 bits,
    counted from the smallest usual depth (10, 12, 14, 16) that has held every picture of that panel so far.
    """

    def __init__(self, min_height: int = 240, vertical: bool = False) -> None:
        self._min_height, self._vertical = max(1, min_height), vertical
        self._boxes: tuple[Box, ...] = ()
        self._canvas = np.zeros((0, 0, 3), np.uint8)
        self._depths: dict[str, int] = {}
        self._strips: dict[tuple[str, str, int], Array] = {}

    @property
    def boxes(self) -> tuple[Box, ...]:
        """Where each panel's picture goes; empty before the first drawing."""
        return self._boxes

    def draw(self, cells: Sequence[Cell]) -> Array:
        """The canvas, uint8 (H, W, 3) BGR, with all ``cells`` in order; overwritten by the next call."""
        if len(self._boxes) != len(cells):
            self._arrange([_size(cell) for cell in cells])
        for box, cell in zip(self._boxes, cells, strict=True):
            self._canvas[box.y - STRIP : box.y, box.x : box.x + box.width] = self._strip(cell, box.width)
            target = self._canvas[box.y : box.y + box.height, box.x : box.x + box.width]
            if cell.image is None:
                target[:] = 0
                text = "no frame"
                write(target, text, ((box.width - text_width(text)) // 2, box.height // 2), _FAINT)
            else:
                fit(self._eight_bits(cell.title, cell.image), target)
        return self._canvas

    def _arrange(self, sizes: Sequence[Resolution]) -> None:
        """Place the boxes: the tallest panel is enlarged to at least ``min_height``, the others as far as they stay
        within its height (within its width, in a column)."""
        tallest = max(height for _, height in sizes)
        reach = tallest * -(-self._min_height // tallest)
        widest = max(width for width, _ in sizes) * (reach // tallest)
        boxes, x, y = [], 0, STRIP
        for width, height in sizes:
            factor = max(1, min(widest // width, reach // height) if self._vertical else reach // height)
            if self._vertical:
                boxes.append(Box((widest - width * factor) // 2, y, width * factor, height * factor))
                y += height * factor + GAP + STRIP
            else:
                boxes.append(Box(x, STRIP + (reach - height * factor) // 2, width * factor, height * factor))
                x += width * factor + GAP
        right = max(box.x + box.width for box in boxes)
        bottom = max(box.y + box.height for box in boxes)
        self._boxes = tuple(boxes)
        self._canvas = np.zeros((bottom + bottom % 2, right + right % 2, 3), np.uint8)

    def _eight_bits(self, title: str, image: Array) -> Array:
        if image.dtype == np.uint8:
            return image
        highest = int(image.max()) if image.size else 0
        needed = next(depth for depth in _DEPTHS if highest < 1 << depth)
        depth = self._depths[title] = max(self._depths.get(title, 10), needed)
        return (image >> (depth - 8)).astype(np.uint8)

    def _strip(self, cell: Cell, width: int) -> Array:
        key = cell.title, cell.marks, width
        if key not in self._strips:
            if len(self._strips) >= 256:
                self._strips.clear()
            whole = f"{cell.title}   {cell.marks}" if cell.marks else cell.title
            scale = fitting_scale(whole, width - 12)
            strip = np.full((STRIP, width, 3), STRIP_COLOUR, np.uint8)
            advance = write(strip, f"{cell.title}   ", (6, 17), _TITLE, scale)
            if cell.marks:
                write(strip, cell.marks, (6 + advance, 17), _MARK, scale)
            self._strips[key] = strip
        return self._strips[key]


def _size(cell: Cell) -> Resolution:
    if cell.image is not None:
        return int(cell.image.shape[1]), int(cell.image.shape[0])
    return max(1, cell.size[0]), max(1, cell.size[1])


def fit(image: Array, target: Array) -> None:
    """Fill ``target`` (uint8 (H, W, 3) BGR, in place) with ``image`` (uint8, grey or BGR): enlarged by a whole factor
    where one fills it, else scaled as large as it fits with its proportions kept, centred on black."""
    height, width = target.shape[:2]
    rows, columns = image.shape[:2]
    colour = image if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    if (rows, columns) == (height, width):
        target[:] = colour
        return
    scale = min(height / rows, width / columns)
    whole = scale >= 1 and float(scale).is_integer()
    new_width, new_height = max(1, round(columns * scale)), max(1, round(rows * scale))
    enlarged = cv2.resize(
        colour,
        (new_width, new_height),
        interpolation=cv2.INTER_NEAREST if whole else cv2.INTER_LINEAR if scale > 1 else cv2.INTER_AREA,
    )
    x, y = (width - new_width) // 2, (height - new_height) // 2
    if (new_height, new_width) != (height, width):
        target[:] = 0
    target[y : y + new_height, x : x + new_width] = enlarged
