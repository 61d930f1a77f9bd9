"""DAVIS346: events and pictures of one sensor (iniVation)."""

from __future__ import annotations

from drivers.camera.live import Live
from drivers.camera.settings import FrameCamera

MODELS = ("DAVIS346",)
"""The models that this driver opens."""


class Settings(FrameCamera, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A DAVIS346's."""


class Driver(Live):
    """See :class:`drivers.camera.live.Live`."""

    models = MODELS
