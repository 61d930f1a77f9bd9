"""``rtpipe bench``: measurements on this machine, each beside the peers that are installed, as ratios."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Measure this machine: every figure beside the peers that are installed, in one run, as ratios.",
    no_args_is_help=True,
)
Seconds = Annotated[float, typer.Option(help="Roughly how long each contender is measured.")]
Json = Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")]


@app.command()
def window(
    files: Annotated[list[Path] | None, typer.Argument(help="Recordings; none: synthetic streams only.")] = None,
    seconds: Seconds = 1.0,
    json: Json = False,
) -> None:
    """Events into tensors: voxel grid, SCER, counts, beside NumPy, torch and eventcv.

    Example: rtpipe bench window city.aedat4
    """
    from rtpipe.bench.window import measure

    _print(measure(files=files or [], seconds=seconds), json)


@app.command()
def filters(
    files: Annotated[list[Path] | None, typer.Argument(help="Recordings; none: synthetic streams.")] = None,
    seconds: Seconds = 1.0,
    json: Json = False,
) -> None:
    """Events through each filter, one core, beside dv-processing's.

    Example: rtpipe bench filters city.aedat4
    """
    from rtpipe.bench.filters import measure

    _print(measure(files=files or [], seconds=seconds), json)


@app.command()
def evt3(
    files: Annotated[list[Path] | None, typer.Argument(help="Prophesee RAW files; none: a synthetic one.")] = None,
    seconds: Seconds = 1.0,
    json: Json = False,
) -> None:
    """A Prophesee camera's own words (EVT2, 2.1, 3) into events, beside evt3, expelliarmus, faery and eventcv.

    Example: rtpipe bench evt3 driving.raw
    """
    from rtpipe.bench.encodings import measure

    _print(measure(files=files or [], seconds=seconds), json)


@app.command()
def transport(
    file: Annotated[Path | None, typer.Argument(help="A Prophesee RAW file: its bytes are sent as they are.")] = None,
    seconds: Seconds = 1.0,
    json: Json = False,
) -> None:
    """Events from one process to another over ipc, beside plain ZeroMQ; of a FILE, a camera's own bytes.

    Example: rtpipe bench transport --json
    """
    from rtpipe.bench import raw
    from rtpipe.bench.transport import measure

    _print(raw.measure(file, seconds) if file is not None else measure(seconds=seconds), json)


@app.command()
def camera(
    seconds: Annotated[float, typer.Option(min=1, help="How long each load lasts.")] = 60.0,
    rate: Annotated[float, typer.Option(min=0.1, max=2000, help="The EVK4's rate in Mev/s.")] = 100.0,
    json: Json = False,
) -> None:
    """A live camera at 100 Mev/s (an EVK4's bytes) and in bursts (a DVXplorer's), from the driver to recorder and voxel
    grids: what is kept, what is dropped and why, in how much memory; and the highest rates without loss.

    Takes some five minutes. Example: rtpipe bench camera --seconds 10 --rate 50
    """
    from rtpipe.bench.camera import measure

    _print(measure(seconds, rate, lambda text: typer.echo(text, err=True)), json)


@app.command()
def latency(seconds: Seconds = 5.0, json: Json = False) -> None:
    """Arrival at the host to tensor ready, over real processes at 1 and 10 Mev/s: p50 and p99.

    Example: rtpipe bench latency --seconds 10
    """
    from rtpipe.bench.latency import measure

    _print(measure(seconds=seconds), json)


@app.command()
def reconstruction(
    files: Annotated[list[Path], typer.Argument(help="Recordings; those with frames are scored against them.")],
    engine: Annotated[list[str] | None, typer.Option(help="A learned engine to measure too.")] = None,
    json: Json = False,
) -> None:
    """Pictures from events: SSIM and MSE against the recording's own frames, and ms a picture, per engine.

    Example: rtpipe bench reconstruction slider_depth --engine firenet
    """
    import msgspec
    from rich.console import Console

    from rtpipe.bench.reconstruction import measure, table

    results = [measure(file, engine or ()) for file in files]
    if json:
        typer.echo(msgspec.json.format(msgspec.json.encode([each for one in results for each in one])).decode())
        return
    for one in results:
        Console().print(table(one))


@app.command()
def engine(
    networks: Annotated[list[str] | None, typer.Argument(help="Which; none: every one that is installed.")] = None,
    size: Annotated[list[str] | None, typer.Option(help="Picture sizes, as 346x260; small where left out.")] = None,
    runtime: Annotated[str, typer.Option(help="tensorrt, onnxruntime, torch; auto: all that are here.")] = "auto",
    device: Annotated[str, typer.Option(help="cuda, cpu; auto: the GPU if there is one.")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32, fp16; auto: fp16 on a GPU.")] = "auto",
    seconds: Seconds = 2.0,
    json: Json = False,
) -> None:
    """Milliseconds a picture of each network, by runtime, beside the plain network in PyTorch.

    Example: rtpipe bench engine nernet --size 346x260 --runtime onnxruntime
    """
    from rich.console import Console

    from rtpipe.bench.engine import SIZES, measure
    from rtpipe.cli.engines import parsed_size

    chosen = [parsed_size(text) for text in size] if size else SIZES
    with Console(stderr=True).status("importing") as status:
        rows = measure(
            networks or [], sizes=chosen, runtime=runtime, device=device, precision=precision, seconds=seconds,
            progress=status.update,
        )  # fmt: skip
    _print(rows, json)


@app.command()
def replay(
    files: Annotated[list[Path] | None, typer.Argument(help="HDF5 recordings; none: a synthetic one.")] = None,
    seconds: Seconds = 1.0,
    json: Json = False,
) -> None:
    """An HDF5 recording into windows, from the file on, beside h5py's slices with NumPy, torch and eventcv.

    Example: rtpipe bench replay city_0000_25fps.h5
    """
    from rtpipe.bench.replay import measure

    _print(measure(files=files or [], seconds=seconds), json)


def _print(rows: object, json: bool) -> None:
    import msgspec
    from rich.console import Console

    from rtpipe.bench.row import table

    if json:
        typer.echo(msgspec.json.format(msgspec.json.encode(rows)).decode())
    else:
        Console().print(table(rows))  # type: ignore[arg-type]
