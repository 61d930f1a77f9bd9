"""What a pipeline file may say of joining one source's frames to another's events."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

Micros: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]


class JoinSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How frames of one source are put on the clock, and into the view, of another's events.

    ``clocks``: ``"trigger"``: the frame camera's shutter is wired to the event camera's trigger input, and each frame
    takes the time of its signal; ``"host"``: both clocks are mapped to this computer's, and the constant delay that
    remains is estimated from what both see move; ``"same"``: both have times of one clock (recordings of one device);
    ``"auto"``: by trigger as soon as signals and frames are seen to fit together, else by host.

    ``delay_us``: how much later a frame seems than it was taken, where that is known: nothing is estimated then. With
    ``clocks: same`` whatever is to be subtracted from the frames' times. ``search_us``: the longest delay looked for.

    ``channel``, ``edge``: the trigger signals that count. ``marks``: what they mark, the ``"start"`` or ``"end"`` of an
    exposure (how long it is, the frames must say), or with ``"exposure"`` both: from a rising edge to the next falling.

    ``view``: ``"same"``: frames and events have the same size and see the same; ``"resize"``: they see the same, and
    frames are scaled to the events' size; or a file with the homography that takes a frame's pixels to the events'
    (YAML or JSON: ``homography``, nine numbers row by row; ``frame_size`` [width, height] that they hold for).
    """

    clocks: Literal["auto", "trigger", "host", "same"] = "auto"
    delay_us: Annotated[int, msgspec.Meta(ge=-(1 << 53), le=1 << 53)] | None = None
    search_us: Micros = 300_000
    channel: Annotated[int, msgspec.Meta(ge=0, le=255)] | None = None
    edge: Literal["rising", "falling"] = "rising"
    marks: Literal["start", "end", "exposure"] = "start"
    view: str = "same"
