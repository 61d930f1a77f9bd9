"""DVXplorer and DVXplorer Mini: events of 640x480 pixels (iniVation)."""

from __future__ import annotations

from drivers.camera.live import Live
from drivers.camera.settings import Camera

MODELS = ("DVXplorer", "DVXplorer Mini")
"""The models that this driver opens."""


class Settings(Camera, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A DVXplorer's."""


class Driver(Live):
    """See :class:`drivers.camera.live.Live`."""

    models = MODELS
