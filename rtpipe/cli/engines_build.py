"""``rtpipe engines build``: a network's TensorRT plan made before it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from rtpipe.runtimes import Built, Library
    from rtpipe.types import Resolution

Precision = Literal["fp16", "fp32"]


def build(
    network: Annotated[str, typer.Argument(help="A network, as `rtpipe engines list` names it.")],
    size: Annotated[list[str], typer.Option(help="The camera's picture size, WIDTHxHEIGHT; may be repeated.")],
    precision: Annotated[Precision, typer.Option(help="fp16 is what `precision: auto` takes on a GPU.")] = "fp16",
    weights: Annotated[str, typer.Option(help="Installed weights by name, or a file; without it the usual ones.")] = "",
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Random numbers for weights, with --dry-run: to see if it builds.")
    ] = False,
    workspace: Annotated[
        int, typer.Option(help="MiB of GPU memory that a layer may use while it computes; 0: as TensorRT likes.", min=0)
    ] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Export, parse and build, keep nothing: TensorRT for RTX needs no GPU.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print what was built as JSON.")] = False,
) -> None:
    """Build a network for TensorRT ahead of time, on the machine that will run it.

    The next `rtpipe run` with these weights, this size and precision starts from the plan in a second or two. Plans are
    for one GPU and one version of TensorRT: copying them to another machine is of no use.

    Examples:

        rtpipe engines build efnet --size 346x260

        rtpipe engines build nernet --size 640x480 --size 1280x720 --precision fp16

        rtpipe engines build firenet --size 1280x720 --workspace 512

        rtpipe engines build efnet --size 346x260 --random-weights --dry-run
    """
    from rtpipe import registry, runtimes
    from rtpipe.cli.engines import parsed_size
    from rtpipe.cli.waiting import Waiting
    from rtpipe.errors import InputError
    from rtpipe.weights.made_up import weights_for

    sizes = list(dict.fromkeys(parsed_size(text) for text in size))
    if random_weights and not dry_run:
        raise InputError("--random-weights is for --dry-run: a plan of random numbers is of no use")
    if random_weights and weights:
        raise InputError("--weights or --random-weights, not both")
    module = registry.load("engines", network)
    if not hasattr(module, "NETWORK"):
        raise InputError(f"{network} is no network: it needs no TensorRT")
    builder = runtimes.builder()
    library = builder.tensorrt()
    if library.why and not (dry_run and library.builds):
        raise InputError(no_way(library, dry_run))
    done: list[tuple[Resolution, Built]] = []
    with weights_for(network, module, weights, random_weights) as stored, Waiting(quiet=json) as waiting:
        engine = module.Engine(module.Settings(weights=str(stored.path)))
        for width, height in sizes:
            waiting.title = f"{network} {width}x{height} {precision}"
            graph = engine.network.graph((width, height))
            built = builder.build(graph, precision, keep=not dry_run, workspace_mb=workspace, progress=waiting.say)
            done.append(((width, height), built))
            if not json:
                waiting.line(said(network, (width, height), precision, built))
        name = "random numbers" if random_weights else stored.path.stem
    if json:
        typer.echo(as_json(network, name, precision, done))
    elif dry_run:
        typer.echo("nothing was kept" + (f": {library.why}" if library.why else ""))
    else:
        typer.echo("the next run with these weights, size and precision starts from the plan")


def no_way(library: Library, dry_run: bool) -> str:
    """Why nothing can be built here, and what can be done all the same."""
    if library.builds and not dry_run:
        return f"{library.why}\n--dry-run parses and builds it all the same, and keeps nothing"
    return library.why


def said(network: str, size: Resolution, precision: str, built: Built) -> str:
    """One plan in a line or two."""
    title = f"{network} {size[0]}x{size[1]} {precision}: "
    mib = built.size_bytes / 2**20
    if built.kept_before:
        return f"{title}was built before: {built.path} ({mib:.1f} MiB)"
    if not built.path:
        return f"{title}builds with {built.library}, {mib:.1f} MiB in {built.seconds:.0f} s; {built.verified}"
    return f"{title}built by {built.library} in {built.seconds:.0f} s; {built.verified}\n  {built.path} ({mib:.1f} MiB)"


def as_json(network: str, weights: str, precision: str, done: list[tuple[Resolution, Built]]) -> str:
    """The same for programs."""
    import msgspec

    plans = [{"size": size, **msgspec.to_builtins(built)} for size, built in done]
    facts = {"network": network, "weights": weights, "precision": precision, "plans": plans}
    return msgspec.json.format(msgspec.json.encode(facts)).decode()
