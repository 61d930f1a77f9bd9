"""``set KEY VALUE``: one setting of a camera that streams, as a person writes it."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
import yaml

from drivers.camera.settings import IDENTITY, Camera
from rtpipe.errors import InputError

S = TypeVar("S", bound=Camera)
MOST = 10_000
"""Characters of a value."""


def changed(settings: S, key: str, text: str) -> S:
    """The settings with one changed. ``key`` is a path (``frames.exposure_us``, ``biases.diff_on``, ``roi``); ``text``
    its value: a number, ``on`` or ``off``; ``off`` or ``none`` also takes a setting back to where it was left out. A
    ROI is ``x,y,width,height``, a mask ``x,y x,y``. Raises ``InputError`` that says what is allowed."""
    kind = type(settings)
    name, _, inner = key.partition(".")
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    if name in IDENTITY:
        raise InputError(f"{name} says which camera and how it is opened: it cannot change while it streams")
    if name not in fields:
        allowed = ", ".join(each for each in fields if each not in IDENTITY)
        raise InputError(f"this camera has no setting {name!r}; there are {allowed}")
    data: dict[str, Any] = msgspec.to_builtins(settings)
    value = _value(name, text.strip())
    if inner:
        data[name] = _inner(getattr(settings, name), name, data[name], inner, value)
    elif value is None or _is_off(value, data[name]):
        data[name] = _default(fields[name])
    elif isinstance(data[name], dict) and not isinstance(value, dict):
        raise InputError(f"{name} has parts: set {name}.NAME VALUE")
    else:
        data[name] = value
    try:
        return msgspec.convert(data, kind)
    except (msgspec.ValidationError, ValueError) as error:
        raise InputError(f"set {key} {text[:60]}: {error}") from error


def _inner(now: Any, name: str, plain: Any, inner: str, value: Any) -> dict[str, Any]:
    part = dict(plain) if isinstance(plain, dict) else {}
    if name != "biases":
        fields = {f.name: f for f in msgspec.structs.fields(now)} if isinstance(now, msgspec.Struct) else {}
        if inner not in fields:
            allowed = ", ".join(fields) or "none"
            raise InputError(f"{name} has no part {inner!r}; there are {allowed}")
        if value is None or _is_off(value, part[inner]):
            value = _default(fields[inner])
    if value is None or (name == "biases" and value is False):
        part.pop(inner, None)
    else:
        part[inner] = value
    return part


def _is_off(value: Any, now: Any) -> bool:
    """Whether ``off`` means: as if it were not written; to a switch it is a value."""
    return value is False and not isinstance(now, bool)


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return msgspec.to_builtins(field.default)
    return msgspec.to_builtins(field.default_factory()) if field.default_factory is not msgspec.NODEFAULT else None


def _value(name: str, text: str) -> Any:
    if len(text) > MOST:
        raise InputError(f"set {name}: a value of {len(text)} characters is too long")
    if text.lower() in ("none", "auto", ""):
        return None
    if name == "roi" and "," in text:
        return dict(zip(("x", "y", "width", "height"), _numbers(name, text, 4), strict=True))
    if name == "mask" and "," in text:
        return [_numbers(name, pair, 2) for pair in text.replace(";", " ").split()]
    if name == "antiflicker_hz" and "," in text:
        return _numbers(name, text, 2)
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(f"set {name}: {text[:60]!r} is no value") from None


def _numbers(name: str, text: str, n: int) -> list[float]:
    words = text.split(",")
    try:
        values = [int(word) if word.strip().lstrip("+-").isdigit() else float(word) for word in words]
    except ValueError:
        values = []
    if len(values) != n:
        wanted = {"roi": "x,y,width,height", "mask": "x,y x,y …"}.get(name, ",".join(["NUMBER"] * n))
        raise InputError(f"set {name}: {wanted} wanted, not {text[:60]!r}")
    return values
