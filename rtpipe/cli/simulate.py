"""``rtpipe simulate``: a DAVIS-like recording, with the sharp truth, from a picture or a video."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rtpipe.simulate import SimulationReport
    from rtpipe.types import Resolution


def simulate(
    source: Annotated[str, typer.Argument(help="A picture, a video, or a photograph by name: astronaut, motorcycle …")],
    out: Annotated[Path, typer.Argument(help="The recording to write (.h5, EFNet's raw layout).")],
    size: Annotated[str, typer.Option(help="Resolution of the sensor, WIDTHxHEIGHT.")] = "346x260",
    seconds: Annotated[float, typer.Option(help="Length of the recording; a video may end sooner.")] = 2.5,
    blur: Annotated[float, typer.Option(help="Blur in pixels that four frames in five have at least.")] = 8.0,
    exposure_ms: Annotated[float, typer.Option(help="Mean exposure of a frame, ms.")] = 26.0,
    fps: Annotated[float, typer.Option(help="Frames per second.")] = 25.0,
    seed: Annotated[int, typer.Option(help="Another path of the hand, other thresholds, other noise.")] = 0,
    gzip: Annotated[
        bool, typer.Option("--gzip", help="Slower to write and read, but opens without hdf5plugin.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was simulated as JSON.")] = False,
) -> None:
    """Simulate an event camera: events, motion-blurred frames with their exposures, and the sharp truth.

    A picture is seen by a hand-held camera that turns; a video by one that stands still (240 frames per second or more
    look real).

    Examples:

        rtpipe simulate astronaut shaken.h5

        rtpipe simulate photo.jpg shaken.h5 --seconds 5 --blur 12 --seed 3

        rtpipe simulate slow-motion.mp4 events.h5 --size 640x480 --json
    """
    import msgspec
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from rtpipe.errors import InputError
    from rtpipe.simulate import CameraSettings
    from rtpipe.simulate import simulate as run

    if not 0 < fps <= 1000:
        raise InputError(f"--fps {fps:g}: a number above 0 and up to 1000 is wanted")
    if not 0 < exposure_ms <= 1000:
        raise InputError(f"--exposure-ms {exposure_ms:g}: a number above 0 and up to 1000 is wanted")
    camera = CameraSettings(period_us=round(1e6 / fps), exposure_us=round(exposure_ms * 1e3))
    columns = TextColumn("simulating"), BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task("", total=1.0)
        report = run(
            source,
            out,
            resolution=_resolution(size),
            seconds=seconds,
            seed=seed,
            blur_px=blur,
            camera=camera,
            compression="gzip" if gzip else "blosc",
            overwrite=overwrite,
            progress=lambda done: bar.update(task, completed=done),
        )
    typer.echo(msgspec.json.encode(report).decode() if as_json else describe(report))


def describe(report: SimulationReport) -> str:
    """What was simulated, in a few lines for people."""
    width, height = report.resolution
    lines = [
        f"{report.path}: {width}x{height}, {report.seconds:g} s from {report.source}, seed {report.seed}",
        f"  {report.events:,} events ({report.event_rate / 1e6:.1f} M/s, {report.on / max(1, report.events):.0%} on)",
        f"  {report.frames} frames, as many sharp ones",
    ]
    if report.blur_px:
        blurs = sorted(report.blur_px)
        middle = blurs[len(blurs) // 2]
        lines.append(f"  blur {blurs[0]:.1f} to {blurs[-1]:.1f} px, median {middle:.1f}")
    if report.mirrored:
        lines.append("  the picture is small for so much motion: beyond its edges it is mirrored")
    return "\n".join(lines)


def _resolution(size: str) -> Resolution:
    from rtpipe.errors import InputError

    width, _, height = size.lower().partition("x")
    if len(size) > 11 or not (width.isascii() and width.isdigit() and height.isascii() and height.isdigit()):
        raise InputError(f"--size {size[:20]}: WIDTHxHEIGHT is wanted, such as 346x260")
    return int(width), int(height)
