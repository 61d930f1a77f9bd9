"""``rtpipe convert``: one recording format to another."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rtpipe.formats.recording import Recording


def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A recording of any supported format.")],
    out: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="What to write; its ending says the format (NAME/: a folder)."),
    ],
    to: Annotated[str | None, typer.Option(help="The format to write, by name, where the ending does not say.")] = None,
    only: Annotated[
        str | None, typer.Option(help="What to keep: events,frames,imu,triggers,truth. Without it: everything.")
    ] = None,
    start: Annotated[float, typer.Option("--from", help="Where to begin, seconds from the recording's start.")] = 0.0,
    until: Annotated[float | None, typer.Option(help="Where to end, seconds from the recording's start.")] = None,
    from_zero: Annotated[
        bool, typer.Option("--from-zero", help="Count times from where writing begins, not by the camera's clock.")
    ] = False,
    filters: Annotated[
        str | None, typer.Option("--filters", help="What the events go through first, as in a pipeline file (YAML).")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="KEY=VALUE for the reader, as for rtpipe info.")
    ] = None,
    write_option: Annotated[
        list[str] | None, typer.Option("--write-option", "-w", help="KEY=VALUE for the format to write.")
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Read the result and compare every event.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Write a recording in another format, event by event. What the target cannot hold is never left out in silence.

    Examples:

        rtpipe convert drive.raw drive.mcap

        rtpipe convert city.aedat4 city.h5 --to rled_h5 --only events,frames --verify

        rtpipe convert boxes.bag boxes/ --from 2 --until 12.5

        rtpipe convert night.raw clean.mcap --filters "[hot_pixels, {filter: background, duration_us: 2000}]"
    """
    import time

    import msgspec
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from rtpipe.cli.info import pair
    from rtpipe.convert import convert as run
    from rtpipe.errors import InputError
    from rtpipe.formats import open_recording

    began = time.monotonic()
    name = out
    if overwrite and out.is_file():  # the old one stays until the new one is whole
        out = out.with_name(f".{out.stem}.new{out.suffix}")
        out.unlink(missing_ok=True)
    with open_recording(source, **dict(pair(text) for text in option or ())) as reader:
        span = (reader.t_end - reader.t_start) / 1e6
        if not 0 <= start <= span or (until is not None and until <= start):
            raise InputError(
                f"--from {start:g}, --until {until}: a piece within the recording's {span:.3f} s is wanted"
            )
        seen = _filtered(reader, filters) if filters else reader
        columns = TextColumn("converting"), BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeRemainingColumn()
        with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as bar:
            task = bar.add_task("", total=1.0)
            done = run(
                seen,
                out,
                to=to,
                only=only.replace(" ", "").split(",") if only else None,
                t0=reader.t_start + round(start * 1e6) if start else None,
                t1=reader.t_start + round(until * 1e6) if until is not None else None,
                shift=-reader.t_start - round(start * 1e6) if from_zero else 0,
                options=dict(pair(text) for text in write_option or ()),
                progress=lambda share: bar.update(task, completed=share),
            )
        notes = list(seen.notes)
        removed = {
            f"{name.removeprefix('filter ')}, {reason}" if reason not in name else reason: n
            for name, flow in getattr(seen, "flows", {}).items()
            if name.startswith("filter ")
            for reason, n in flow.dropped.items()
        }
    if verify:
        _verify(out, done.digest)
    if out != name:
        out.replace(name)
    took = time.monotonic() - began
    if as_json:
        facts = {
            **msgspec.to_builtins(done),
            "path": str(name),
            "notes": notes,
            "seconds": round(took, 3),
            "verified": verify,
        }
        typer.echo(msgspec.json.format(msgspec.json.encode(facts)).decode())
        return
    for note in notes:
        typer.echo(f"{source}: {note}")
    written = ", ".join(f"{n:,} {name.rsplit('/', 1)[-1]}" for name, n in done.counts.items())
    typer.echo(f"{name}: {done.format}, {written}{' (verified)' if verify else ''}, in {took:.1f} s")
    if removed:
        typer.echo(f"removed by filters: {', '.join(f'{n:,} {name}' for name, n in removed.items())}")
    if done.left_out:
        left = ", ".join(f"{n:,} {name}" for name, n in done.left_out.items())
        typer.echo(f"left out: {left}")


def _filtered(reader: Recording, text: str) -> Recording:
    """``reader`` through the filters of a YAML list."""
    import yaml

    from rtpipe.errors import InputError
    from rtpipe.window.filters.recording import filtered

    try:
        chosen = yaml.safe_load(text)
    except yaml.YAMLError:
        chosen = None
    if not isinstance(chosen, list):
        raise InputError(f'--filters {text}: a list is wanted, as "[hot_pixels, {{filter: roi, x: 10}}]"')
    return filtered(reader, chosen)


def _verify(out: Path, digest: str) -> None:
    """Read ``out`` again; every event must be there. Raises ``WorldError``."""
    from rtpipe.convert import Digest
    from rtpipe.errors import WorldError
    from rtpipe.formats import open_recording

    found = Digest()
    with open_recording(out) as reader:
        for events in reader.event_chunks():
            found.add(events)
    if (found.hex() if found.n else "") != digest:
        raise WorldError(f"{out}: what was read again is not what was written (events {found.hex()}, not {digest})")
