"""A camera's calibration from a file: the text of the IJRR data set, or YAML as ROS, Kalibr and OpenCV write it."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from rtpipe.errors import FormatError, InputError
from rtpipe.types import Resolution

MAX_BYTES = 1 << 16
MOST_NUMBERS = 16
MODELS = {
    "pinhole": "pinhole", "plumb_bob": "pinhole", "rational_polynomial": "pinhole", "radtan": "pinhole",
    "fisheye": "fisheye", "equidistant": "fisheye",
}  # fmt: skip
"""The words for distortion models in the wild, and what they are here."""
COEFFICIENTS = {"pinhole": (0, 4, 5, 8, 12, 14), "fisheye": (4,)}


class Calibration(NamedTuple):
    """``matrix`` (fx, fy, cx, cy) in pixels; ``distortion`` as OpenCV orders it (k1 k2 p1 p2 k3 …; fisheye: k1 to k4);
    ``model`` ``"pinhole"`` or ``"fisheye"``; the sensor's ``resolution`` where the file says it."""

    matrix: tuple[float, ...]
    distortion: tuple[float, ...]
    model: str = "pinhole"
    resolution: Resolution | None = None


def fault(calibration: Calibration) -> str:
    """What is wrong with the numbers, in words; empty where nothing is."""
    numbers = (*calibration.matrix, *calibration.distortion)
    if len(calibration.matrix) != 4 or not all(math.isfinite(number) and abs(number) < 1e6 for number in numbers):
        return "fx, fy, cx, cy and finite distortion coefficients wanted"
    if calibration.matrix[0] <= 0 or calibration.matrix[1] <= 0:
        return "the focal lengths fx and fy must be above 0"
    if calibration.model not in COEFFICIENTS:
        return f"distortion model {calibration.model!r}: one of {', '.join(MODELS)} wanted"
    if len(calibration.distortion) not in COEFFICIENTS[calibration.model]:
        wanted = ", ".join(map(str, COEFFICIENTS[calibration.model]))
        return f"{len(calibration.distortion)} distortion coefficients; a {calibration.model} camera has {wanted}"
    return ""


def load(path: Path) -> Calibration:
    """The calibration in ``path``. Raises ``InputError`` where it cannot be read, ``FormatError`` for what is in it."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise FormatError(f"{path}: more than {MAX_BYTES} bytes is no calibration")
    try:
        found = parse(data.decode("utf-8"))
    except ValueError as error:
        raise FormatError(f"{path}: no calibration: {str(error).partition(chr(10))[0][:200]}") from error
    wrong = fault(found)
    if wrong:
        raise FormatError(f"{path}: {wrong}")
    return found


def parse(text: str) -> Calibration:
    """The calibration in the text of a file; its numbers are not looked at (see :func:`fault`).

    Nine numbers are fx fy cx cy k1 k2 p1 p2 k3 (IJRR's calib.txt). YAML: ``camera_matrix`` and
    ``distortion_coefficients`` (ROS, OpenCV), ``intrinsics`` and ``distortion_coeffs`` (Kalibr, its first camera), or
    ``matrix`` and ``distortion`` as in a pipeline file. Raises ``ValueError`` in words.
    """
    words = text.split()
    try:
        numbers = tuple(float(word) for word in words)
    except ValueError:
        return _from_yaml(text)
    if len(numbers) != 9:
        raise ValueError(f"fx fy cx cy k1 k2 p1 p2 k3 wanted, found {len(numbers)} numbers")
    return Calibration(numbers[:4], numbers[4:])


def _from_yaml(text: str) -> Calibration:
    if text.startswith("%YAML:1.0"):  # what OpenCV writes there is no YAML
        text = text.partition("\n")[2]
    try:
        data = yaml.BaseLoader(text).get_single_data()  # mappings, lists and text alone, whatever the tags say
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"neither nine numbers nor YAML: {getattr(error, 'problem', None) or 'damaged'}") from error
    if isinstance(data, dict) and isinstance(data.get("cam0"), dict):
        data = data["cam0"]
    if not isinstance(data, dict):
        raise ValueError("neither nine numbers nor a mapping with camera_matrix and distortion_coefficients")
    matrix = _numbers(data, "camera_matrix", "intrinsics", "matrix")
    if len(matrix) == 9:
        matrix = (matrix[0], matrix[4], matrix[2], matrix[5])
    distortion = _numbers(data, "distortion_coefficients", "distortion_coeffs", "distortion")
    model = str(data.get("distortion_model", data.get("model", "pinhole")))
    return Calibration(matrix, distortion, MODELS.get(model, model), _resolution(data))


def _numbers(data: dict[Any, Any], *names: str) -> tuple[float, ...]:
    for name in names:
        if name in data:
            value = data[name]
            rows = value.get("data") if isinstance(value, dict) else value
            if not isinstance(rows, list) or len(rows) > MOST_NUMBERS:
                raise ValueError(f"{name}: a list of numbers wanted")
            flat = [each for row in rows for each in (row if isinstance(row, list) else [row])]
            if len(flat) > MOST_NUMBERS or not all(isinstance(each, str) for each in flat):
                raise ValueError(f"{name}: at most {MOST_NUMBERS} numbers wanted")
            return tuple(float(each) for each in flat)
    raise ValueError(f"none of the keys {', '.join(names)} in it")


def _resolution(data: dict[Any, Any]) -> Resolution | None:
    sides = data.get("resolution") or [data.get("image_width"), data.get("image_height")]
    if isinstance(sides, list) and len(sides) == 2 and all(re.fullmatch("[0-9]{1,9}", str(side)) for side in sides):
        return int(sides[0]), int(sides[1])
    return None
