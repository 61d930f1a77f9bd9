"""An engine that makes nothing of its windows: what is measured ends where the tensor is ready."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rtpipe.stage import EngineSpec
from rtpipe.types import Frame, Resolution, Window


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``bins`` of the voxel grid."""

    bins: int = 5


class Engine:
    """See :class:`rtpipe.stage.Engine`."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._bins = (settings or Settings()).bins

    @property
    def spec(self) -> EngineSpec:
        """A voxel grid."""
        return EngineSpec("null", "voxel", needs_frame=False, stateful=False, bins=self._bins)

    def warm(self, resolution: Resolution) -> None:
        """Nothing to make ready."""

    def reset(self) -> None:
        """Nothing to forget."""

    def infer(self, window: Window) -> Sequence[Frame]:  # noqa: ARG002
        """No picture."""
        return ()
