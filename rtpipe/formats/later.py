"""What a packet holds, moved in time."""

from __future__ import annotations

from dataclasses import replace

from rtpipe.types import Body, Events, Frame, Imu, PackedEvents, RawEvents, Trigger


def later(body: Body, by: int) -> Body:
    """``body`` with ``by`` µs added to all its times; the columns that are no times stay views."""
    if isinstance(body, Events | Imu | Trigger):
        return replace(body, t=body.t + by)
    if isinstance(body, PackedEvents | RawEvents):
        return replace(body, t0=body.t0 + by)
    if isinstance(body, Frame):
        known = ("exposure_start", "exposure_end", "window_start", "window_end")
        told = {name: t + by for name in known if (t := getattr(body, name)) is not None}
        return replace(body, t=body.t + by, **told)
    return body
