"""DVS128: events of 128x128 pixels (iniVation)."""

from __future__ import annotations

from drivers.camera.live import Live
from drivers.camera.settings import Camera

MODELS = ("DVS128",)
"""The models that this driver opens."""


class Settings(Camera, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A DVS128's."""


class Driver(Live):
    """See :class:`drivers.camera.live.Live`."""

    models = MODELS
