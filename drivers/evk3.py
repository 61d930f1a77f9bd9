"""EVK3 HD: events of 1280x720 pixels (Prophesee)."""

from __future__ import annotations

from drivers.camera.live import Live
from drivers.camera.settings import Camera

MODELS = ("EVK3 HD",)
"""The models that this driver opens."""


class Settings(Camera, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An EVK3 HD's."""


class Driver(Live):
    """See :class:`drivers.camera.live.Live`."""

    models = MODELS
