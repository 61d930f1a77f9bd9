"""Sink ``video``: the panels side by side as a video file that browsers play.

Takes every frame; time stamps are the frames' own. The file is readable at every moment, also after ``kill -9``; see
:mod:`rtpipe.sinks.encoder`. An existing file is never overwritten: ``-2`` and so on is appended to the name.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from rtpipe.errors import RtpipeError, WorldError
from rtpipe.ledger import Flow
from rtpipe.sinks.encoder import Codec, Encoder, check_codec
from rtpipe.sinks.layout import Layout
from rtpipe.sinks.panels import PANELS, Composite, Panel, PanelComposer, kinds
from rtpipe.types import Packet, StreamInfo

DELIVERY = "every"
CODECS: dict[str, tuple[Codec, ...]] = {".mp4": ("h264",), ".mkv": ("ffv1", "h264")}
"""What each kind of file can hold; the first is what ``auto`` means."""


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``path`` the file (``.mp4`` or ``.mkv``), or None for a name made of the time, in ``dir``."""

    path: str | None = None
    dir: str = "recordings"
    panels: tuple[Panel, ...] = PANELS
    fps: Annotated[float, Meta(gt=0, le=1000)] | Literal["auto"] = "auto"
    """``auto``: each picture at its own time. A number: one after another at this rate, whatever their times."""
    codec: Codec | Literal["auto"] = "auto"
    """``h264`` (plays everywhere) or ``ffv1`` (lossless, ``.mkv``). ``auto``: h264 for ``.mp4``, ffv1 for ``.mkv``."""
    quality: Annotated[int, Meta(ge=0, le=51)] = 20
    """Of h264, as x264's constant rate factor: 0 lossless, 18 very good, 28 small."""

    min_height: Annotated[int, Meta(ge=1, le=4320)] = 240
    """Small pictures are enlarged by a whole factor to at least this height."""

    def __post_init__(self) -> None:
        suffix = Path(self.path).suffix if self.path is not None else None
        if suffix is not None and suffix not in CODECS:
            raise ValueError(f"path: {self.path} must end in {' or '.join(CODECS)}")
        if suffix is not None and self.codec != "auto" and self.codec not in CODECS[suffix]:
            raise ValueError(f"codec: {self.codec} does not go into a {suffix} file; use .mkv")

    @property
    def chosen_codec(self) -> Codec:
        """The codec that ``auto`` stands for."""
        if self.codec != "auto":
            return self.codec
        return CODECS[Path(self.path).suffix][0] if self.path is not None else "h264"


def wants(settings: Settings) -> tuple[str, ...]:
    """The kinds of streams that the panels need."""
    return kinds(settings.panels)


class Sink:
    """Composes panels and encodes them. ``process`` blocks for as long as a picture takes to encode (a few ms)."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._composer = PanelComposer(settings.panels, Layout(settings.min_height))
        self._encoder: Encoder | None = None
        self._path: Path | None = None
        self._failed = False
        self._pending = 0  # frames of the last picture: it is safe once the next one has been written

    @property
    def flows(self) -> Mapping[str, Flow]:
        """``frames``: passed are those that are in the file."""
        return {"frames": self._composer.flow}

    @property
    def path(self) -> Path | None:
        """The file being written; None before :meth:`open`, and after the end where nothing was there to write."""
        return self._path

    @property
    def facts(self) -> Mapping[str, str]:
        """What the run's report says of this sink: the file."""
        return {"video": str(self._path)} if self._path is not None else {}

    def open(self, streams: Sequence[StreamInfo]) -> Sequence[StreamInfo]:
        """Reserve the file. Raises ``WorldError`` where it cannot be made, ``InputError`` without the encoder."""
        check_codec(self._settings.chosen_codec)
        self._composer.open(streams)
        self._path = self._reserve()
        return ()

    def process(self, packet: Packet) -> Sequence[Packet]:
        """Take one packet and encode what is complete. Raises ``WorldError``: disk full and the like."""
        self._composer.take(packet)
        self._write(self._composer.ready())
        return ()

    def idle(self) -> Sequence[str]:
        """Nothing is due between packets."""
        return ()

    def status(self, line: str) -> None:
        """Ignored."""

    def close(self) -> Sequence[Packet]:
        """Encode what is left and finish the file; a file without a picture is removed."""
        try:
            if not self._failed:
                self._write(self._composer.end())
                if self._encoder is not None:
                    self._finish(self._encoder)
        finally:
            self._composer.discard("not written")
            if self._encoder is None and self._path is not None:
                self._path.unlink(missing_ok=True)
                self._path = None
        return ()

    def _write(self, composites: Iterator[Composite]) -> None:
        for composite in composites:
            try:
                if self._encoder is None:
                    self._encoder = self._start(composite)
                self._encoder.write(composite.image, composite.t, composite.epoch)
            except RtpipeError:
                self._fail(composite.fresh)
                raise
            self._composer.flow.passed += self._pending
            self._pending = composite.fresh

    def _start(self, composite: Composite) -> Encoder:
        height, width = composite.image.shape[:2]
        fps = None if self._settings.fps == "auto" else self._settings.fps
        assert self._path is not None, "open() comes before process()"
        return Encoder(self._path, self._settings.chosen_codec, (width, height), self._settings.quality, fps)

    def _finish(self, encoder: Encoder) -> None:
        try:
            encoder.close()
        except RtpipeError:
            self._fail(0)
            raise
        self._composer.flow.passed += self._pending
        self._pending = 0

    def _fail(self, fresh: int) -> None:
        self._failed = True
        self._composer.flow.drop("not written", self._pending + fresh)
        self._pending = 0

    def _reserve(self) -> Path:
        suffix = ".mkv" if self._settings.chosen_codec == "ffv1" else ".mp4"
        name = self._settings.path or str(Path(self._settings.dir) / time.strftime(f"video-%Y%m%d-%H%M%S{suffix}"))
        wanted = Path(name)
        try:
            wanted.parent.mkdir(parents=True, exist_ok=True)
            for number in count(1):
                path = wanted if number == 1 else wanted.with_stem(f"{wanted.stem}-{number}")
                try:
                    path.open("xb").close()
                except FileExistsError:
                    continue
                return path
        except OSError as error:
            raise WorldError(f"video: {wanted} cannot be written: {error.strerror}") from error
        raise AssertionError("count() does not end")
