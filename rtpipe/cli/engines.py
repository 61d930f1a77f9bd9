"""``rtpipe engines``: which engines there are, weights for those that learn, plans and checks of what runs them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rtpipe.cli import engines_build, engines_check

if TYPE_CHECKING:
    from rich.table import Table

    from rtpipe.weights.learned import Properties
    from rtpipe.weights.overview import Entry, Runtime

app = typer.Typer(help="Engines: what they cost and need; weights; TensorRT plans; checks.", no_args_is_help=True)


@app.command("list")
def list_(
    size: Annotated[str, typer.Option(help="Picture size, WIDTHxHEIGHT, for which GFLOP are counted.")] = "346x260",
    json: Annotated[bool, typer.Option("--json", help="Print the same facts as JSON.")] = False,
) -> None:
    """Every engine: parameters, operations per picture, weights found or how to get them, what can run it here.

    Examples:

        rtpipe engines list

        rtpipe engines list --size 1280x720 --json
    """
    from rtpipe.weights import overview, store

    resolution = parsed_size(size)
    runtimes = overview.runtimes()
    entries = overview.entries(resolution, runtimes)
    broken = [each.problem for each in store.listed() if each.problem]
    if json:
        import msgspec

        facts = {
            "size": resolution,
            "engines": entries,
            "runtimes": runtimes,
            "weights": str(store.directory()),
            "broken": broken,
        }
        typer.echo(msgspec.json.format(msgspec.json.encode(facts)).decode())
        return
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = 200  # piped into a file or a pager: one fact, one line
    console.print(table(entries, size))
    for line in _notes(entries, runtimes):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"Weights are kept in {store.directory()}", markup=False, highlight=False, soft_wrap=True)
    for problem in broken:
        console.print(f"Cannot be used: {problem}", markup=False, highlight=False, soft_wrap=True)


@app.command("import")
def import_(
    network: Annotated[str, typer.Argument(help="The engine that the weights are for.")],
    file: Annotated[
        Path | None,
        typer.Argument(help="A checkpoint: .pth, .pth.tar, .safetensors, .npz. Left out: a package's own weights."),
    ] = None,
    name: Annotated[str, typer.Option(help="Under which name to keep them; without it NETWORK-VARIANT.")] = "",
    given: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE: a property that the file does not tell.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace weights of the same name.")] = False,
) -> None:
    """Bring a published checkpoint in: read without running anything in it, checked tensor by tensor, kept with what it
    is and where it came from.

    Examples:

        rtpipe engines import efnet EFNet-GoPro.pth

        rtpipe engines import efnet net_g_latest.pth --name efnet-mine --set color_order=rgb --set mask=no

        rtpipe engines import pienet
    """
    from rtpipe.errors import InputError
    from rtpipe.weights import importing

    if file is None:
        learned = importing.network(network)
        packaged = getattr(learned, "import_packaged", None)
        if packaged is None:
            known = "; ".join(f"{each.file}: {each.where}" for each in learned.published)
            raise InputError(
                f"{network} comes in no package: name the checkpoint's file" + (f" ({known})" if known else "")
            )
        if name or given:
            raise InputError(
                "--name and --set are for a FILE: weights of a package have their own names and properties"
            )
        for each in packaged(overwrite):
            _say(each.name, each.path, each.properties, each.provenance)
        return
    done = importing.bring(network, file, dict(_pair(text) for text in given or ()), name, overwrite)
    stored = done.stored
    if done.already:
        typer.echo(f"{stored.path.stem} is there already, from the same file; --overwrite writes it again")
    numbers = sum(array.size for array in stored.tensors.values() if array.dtype.kind == "f")
    _say(stored.path.stem, stored.path, stored.properties, stored.provenance, numbers, len(stored.tensors))


app.command()(engines_build.build)
app.command()(engines_check.check)


def table(entries: Sequence[Entry], size: str) -> Table:
    """The engines as they are printed: one line for each set of weights."""
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("engine", no_wrap=True)
    grid.add_column("weights", no_wrap=True)
    grid.add_column("", no_wrap=True)
    grid.add_column("parameters", justify="right", no_wrap=True)
    grid.add_column(f"GFLOP at {size}", justify="right")
    grid.add_column("runs here with", overflow="fold")
    for entry in entries:
        ways = Text(", ".join(entry.runtimes) or "nothing", style="" if entry.runtimes else "red")
        if entry.problem:
            grid.add_row(Text(entry.name), "", Text("cannot be used", style="red"), "", "", Text(entry.problem))
        elif entry.model_free:
            grid.add_row(Text(entry.name), "", Text("none needed", style="green"), "", "", ways)
        for row, weights in enumerate(entry.weights):
            state = Text("found", style="green") if weights.found else Text("not found", style="yellow")
            numbers = f"{weights.parameters:,}" if weights.parameters is not None else ""
            gflop = f"{weights.gflop:,.1f}" if weights.gflop is not None else ""
            first = row == 0
            grid.add_row(
                Text(entry.name if first else ""), Text(weights.name), state, numbers, gflop, ways if first else ""
            )
    return grid


def _notes(entries: Sequence[Entry], runtimes: Iterable[Runtime]) -> list[str]:
    """Below the table: how to get what is not there."""
    lines = [f"{each.name}: not here: {each.why}" for each in runtimes if each.why]
    lines += [
        f"{weights.name or entry.name}: {weights.get}" for entry in entries for weights in entry.weights if weights.get
    ]
    return lines


def _say(
    name: str,
    path: Path,
    properties: Properties | None,
    provenance: Mapping[str, str],
    numbers: int | None = None,
    tensors: int | None = None,
) -> None:
    """What was imported, one fact a line."""
    facts: dict[str, Any] = {}
    if properties is not None:
        facts["network"] = " ".join(filter(None, (properties.network, properties.variant)))
        facts |= {key.replace("_", " "): value for key, value in sorted(properties.values.items())}
    if numbers is not None:
        facts["parameters"] = f"{numbers:,} numbers in {tensors} tensors"
    if "file" in provenance:
        facts["from"] = f"{provenance['file']}, sha256 {provenance.get('sha256', '')[:16]}"
    if "licence" in provenance:
        facts["licence"] = provenance["licence"]
    facts["kept in"] = path
    typer.echo(f"{name}")
    for key, value in facts.items():
        typer.echo(f"  {key:<15} {value}")


def parsed_size(text: str) -> tuple[int, int]:
    """``"346x260"`` as numbers. Raises ``InputError``."""
    from rtpipe.errors import InputError
    from rtpipe.types import MAX_SIDE

    width, _, height = text.lower().partition("x")
    if not (width.isascii() and width.isdigit() and height.isascii() and height.isdigit()):
        raise InputError(f"--size {text}: WIDTHxHEIGHT wanted, as in 346x260")
    if not (len(text) < 20 and 0 < int(width) <= MAX_SIDE and 0 < int(height) <= MAX_SIDE):
        raise InputError(f"--size {text}: between 1x1 and {MAX_SIDE}x{MAX_SIDE}, please")
    return int(width), int(height)


def _pair(text: str) -> tuple[str, str]:
    from rtpipe.errors import InputError

    key, equals, value = text.partition("=")
    if not (key.strip() and equals and value.strip()):
        raise InputError(f"--set {text}: KEY=VALUE wanted, as in color_order=rgb")
    return key.strip(), value.strip()
