"""``rtpipe info``: what is in a recording."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rtpipe.formats.recording import Recording

LOOKED_AT = 200
"""Frames whose exposures are looked at, from the recording's start."""


def info(
    file: Annotated[Path, typer.Argument(help="A recording of any supported format.")],
    json: Annotated[bool, typer.Option("--json", help="Print the same facts as JSON.")] = False,
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="KEY=VALUE for the format's reader, as a message asks.")
    ] = None,
) -> None:
    """What is in a recording: format, sensor, span, streams with their counts and rates, and what had to be inferred.

    Examples:

        rtpipe info drive.aedat4

        rtpipe info city_0000_25fps.h5 --json

        rtpipe info odd.h5 --option time_unit=us --option "resolution=[346, 260]"
    """
    from rtpipe.formats import format_of, open_recording

    options = dict(pair(text) for text in option or ())
    with open_recording(file, **options) as recording:
        facts = describe(recording, format_of(file))
    if json:
        import msgspec

        typer.echo(msgspec.json.format(msgspec.json.encode(facts)).decode())
    else:
        for line in _lines(facts):
            typer.echo(line)


def describe(recording: Recording, kind: str) -> dict[str, Any]:
    """The facts that ``--json`` prints. ``events``, ``frames``, ``imu`` and ``triggers`` are their numbers over all
    cameras; times are µs of the camera's clock; ``exposure_us`` is the shortest and the longest of the first frames,
    None where none is known. May read the whole file once."""
    from itertools import islice

    counts = recording.counts()
    seconds = (recording.t_end - recording.t_start) / 1e6
    streams = [
        {
            "name": stream.name,
            "count": counts.get(stream.name, 0),
            "rate_hz": round(counts.get(stream.name, 0) / seconds, 3) if seconds > 0 else None,
            "resolution": stream.resolution,
            "camera": stream.camera,
        }
        for stream in getattr(recording, "recorded", recording.streams)  # our own hold an engine's output too
    ]

    def total(of: str) -> int:
        return sum(counts.get(stream.name, 0) for stream in recording.streams if stream.kind == of)

    exposures = [
        frame.exposure_end - frame.exposure_start
        for frame in islice(recording.frames(), LOOKED_AT)
        if frame.exposure_start is not None and frame.exposure_end is not None
    ]
    return {
        "format": kind,
        "path": str(recording.path),
        "resolution": list(recording.resolution),
        "t_start": recording.t_start,
        "t_end": recording.t_end,
        "duration_s": seconds,
        "events": total("events"),
        "frames": total("frames"),
        "imu": total("imu"),
        "triggers": total("triggers"),
        "exposure_us": [min(exposures), max(exposures)] if exposures else None,
        "truth": counts.get("truth", 0),
        "streams": streams,
        "notes": list(recording.notes),
    }


def _lines(facts: dict[str, Any]) -> list[str]:
    width, height = facts["resolution"]
    lines = [
        f"{facts['path']}: {facts['format']}, {width}x{height}, {facts['duration_s']:.3f} s",
        f"  from {facts['t_start']} to {facts['t_end']} µs of the camera's clock",
    ]
    for stream in facts["streams"]:
        rate = "" if stream["rate_hz"] is None else f", {_rate(stream['rate_hz'])}"
        camera = f" ({stream['camera']})" if stream["camera"] else ""
        lines.append(f"  {stream['name']}: {stream['count']:,}{rate}{camera}")
    if facts["exposure_us"]:
        shortest, longest = (f"{us / 1000:.3f}" for us in facts["exposure_us"])
        lines.append(f"  exposure {shortest} ms" if shortest == longest else f"  exposure {shortest} to {longest} ms")
    if facts["truth"]:
        lines.append(f"  sharp pictures to compare with: {facts['truth']:,}")
    lines.extend(f"  note: {note}" for note in facts["notes"])
    return lines


def _rate(hz: float) -> str:
    for factor, unit in ((1e6, "M"), (1e3, "k")):
        if hz >= factor:
            return f"{hz / factor:.2f} {unit}/s"
    return f"{hz:.1f}/s"


def pair(text: str) -> tuple[str, Any]:
    """``KEY=VALUE`` with the value read as YAML."""
    import yaml

    from rtpipe.errors import InputError

    key, equals, value = text.partition("=")
    try:
        if key and equals:
            return key, yaml.safe_load(value)
    except yaml.YAMLError:
        pass
    raise InputError(f"--option {text}: KEY=VALUE wanted")
