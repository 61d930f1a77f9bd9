"""Any camera of Prophesee's, as far as an installed back end opens it."""

from __future__ import annotations

from drivers.camera.live import Live
from drivers.camera.settings import Camera

MODELS: tuple[str, ...] = ()
"""Any of Prophesee's that a back end names."""


class Settings(Camera, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A Prophesee camera's."""


class Driver(Live):
    """See :class:`drivers.camera.live.Live`."""

    models = MODELS
