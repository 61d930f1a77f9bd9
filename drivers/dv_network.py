"""A dv-runtime's or dv-processing's network streams as a camera: one port, or UNIX socket, per stream.

Live: nothing is sent again. A server that goes away is waited for, and what it sends then begins a new epoch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec

from drivers.backends.dv_network import Credentials, Network, Place
from drivers.camera.choose import Chosen, NoneAttachedError
from drivers.camera.contract import GoneError
from drivers.camera.live import Live
from drivers.camera.settings import Camera
from drivers.camera.timeline import Timeline
from rtpipe.errors import InputError

Kind = Literal["events", "frames", "imu", "triggers"]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Socket = Annotated[str, msgspec.Meta(min_length=1, max_length=107)]


MARGIN_US = 500_000
"""How late a network (and a busy server) may be with what follows silence: time goes on so much later in silence."""


class Settings(Camera, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the streams are. What else a camera's settings ask for is done on this computer, or refused."""

    host: str = "127.0.0.1"
    streams: dict[Kind, Port | Socket]
    """The TCP port of each stream, or the path of its UNIX socket: ``{events: 7777, frames: 7778, imu: /run/imu}``.
    Leave out what is not wanted."""
    certificate: str = ""
    """For a server that wants TLS: a file with this client's certificate chain (PEM)."""
    key: str = ""
    """Its private key (PEM)."""

    def __post_init__(self) -> None:
        if not {"events", "frames"} & set(self.streams):
            raise ValueError("streams: events or frames wanted at least, as in {events: 7777}")
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate, key: both or none")


class Driver(Live):
    """See :class:`drivers.camera.live.Live`."""

    models: ClassVar[tuple[str, ...]] = ()

    def __init__(self, settings: Settings) -> None:
        shared = msgspec.structs.fields(Camera)
        super().__init__(Camera(**{field.name: getattr(settings, field.name) for field in shared}))
        self._time = Timeline(MARGIN_US)
        self._network = Network(
            {kind: _place(settings.host, where) for kind, where in settings.streams.items()}, _credentials(settings)
        )

    def find(self, settings: Camera) -> Chosen:  # noqa: ARG002
        """The one camera there is, if its streams are offered. Raises ``NoneAttachedError`` that says why not."""
        try:
            self._network.reach()
        except GoneError as error:
            raise NoneAttachedError(f"{error} (wait: true waits for it)") from error
        return Chosen(self._network, next(iter(self._network.attached())))  # type: ignore[arg-type]


def _place(host: str, where: int | str) -> Place:
    return Place(host, where) if isinstance(where, int) else Place(where, 0)


def _credentials(settings: Settings) -> Credentials | None:
    if not settings.certificate:
        return None
    found = Credentials(Path(settings.certificate), Path(settings.key))
    for name, path in (("certificate", found.certificate), ("key", found.key)):
        if not path.is_file():
            raise InputError(f"{name}: {path}: there is no such file")
    return found
