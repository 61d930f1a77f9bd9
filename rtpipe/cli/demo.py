"""``rtpipe demo``: a simulated camera, deblurred live and scored against the truth. Nothing to download."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

WANTED_GAIN_DB = 3.0


def demo(
    seconds: Annotated[float, typer.Option(help="Length of the simulated recording.", min=0.5, max=60)] = 2.5,
    headless: Annotated[bool, typer.Option("--headless", help="Without a window.")] = False,
    out: Annotated[Path, typer.Option(help="Where the recording, video and contact sheet go.")] = Path(
        "recordings/demo"
    ),
    seed: Annotated[int, typer.Option(help="Another path of the hand, other noise.")] = 0,
) -> None:
    """A simulated hand-held camera through every part of rtpipe: its blurred frames are deblurred by their events in
    real time, shown, recorded, made into a video, and scored against the sharp truth.

    Exit code 1 if the output does not beat the blurred input by 3 dB.

    Examples:

        rtpipe demo

        rtpipe demo --headless --seconds 5 --out /tmp/demo
    """
    from rich.console import Console

    from rtpipe.cli.run import execute, facts, show
    from rtpipe.errors import WorldError
    from rtpipe.pipeline.config import load

    console = Console()
    directory = _fresh(out)
    recording = _simulate(directory / "simulated.h5", seconds, seed)
    overrides = [f"sinks.1.path={directory / 'demo.mp4'}", f"sinks.2.dir={directory}", "sinks.2.name=demo"]
    result = execute(load("demo", source=str(recording), overrides=overrides), headless=headless, quiet=False)
    show(result)
    if result.exit_code:
        raise typer.Exit(result.exit_code)
    recorded = next((Path(value) for _, fact, value in facts(result) if fact == "recording"), None)
    if recorded is None:
        raise WorldError("the recorder wrote no file")
    gain = _score(console, recording, recorded, directory / "contact-sheet.png")
    if gain < WANTED_GAIN_DB:
        raise WorldError(
            f"the output beats the blurred input by {gain:.2f} dB only; {WANTED_GAIN_DB:.0f} dB are wanted"
        )


def _fresh(directory: Path) -> Path:
    """The demo's directory, without what an earlier demo left there."""
    from rtpipe.errors import InputError

    try:
        directory.mkdir(parents=True, exist_ok=True)
        for old in [*directory.glob("demo*.mp4"), *directory.glob("demo*.mcap"), *directory.glob("contact-sheet.png")]:
            old.unlink()
    except OSError as error:
        raise InputError(f"{directory}: cannot be written: {error.strerror}; choose another with --out") from error
    return directory


def _simulate(path: Path, seconds: float, seed: int) -> Path:
    from rich.console import Console
    from rich.progress import track

    from rtpipe.cli.simulate import describe
    from rtpipe.simulate import simulate

    console = Console(stderr=True)
    steps = iter(
        track(range(1000), "simulating a hand-held DAVIS346", console=console, disable=not console.is_terminal)
    )
    done = 0

    def advance(share: float) -> None:
        nonlocal done
        while done < share * 1000 and next(steps, None) is not None:
            done += 1

    report = simulate(None, path, seconds=seconds, seed=seed, overwrite=True, compression="blosc", progress=advance)
    typer.echo(describe(report))
    return path


def _score(console: Console, recording: Path, recorded: Path, sheet: Path) -> float:
    """Print the scores of the recorded output against the simulation's truth; the mean gain in dB."""
    from rtpipe.engine import OUTPUT
    from rtpipe.evaluate.sheet import contact_sheet
    from rtpipe.evaluate.truth import score
    from rtpipe.formats.mcap import Reader

    with Reader(recorded) as reader:
        scores = score(recording, reader.pictures(OUTPUT))
        contact_sheet(recording, reader.pictures(OUTPUT), sheet)
    console.print(
        f"against the truth, mean of {len(scores.frames)} frames: blurred input {scores.psnr_in:.2f} dB, SSIM "
        f"{scores.ssim_in:.3f}; output {scores.psnr_out:.2f} dB, SSIM {scores.ssim_out:.3f}; "
        f"gain [bold]{scores.gain_db:+.2f} dB[/bold]",
        highlight=False,
    )
    if scores.missing:
        console.print(f"{scores.missing} frames have no output", highlight=False)
    console.print(f"contact sheet: {sheet}", highlight=False, soft_wrap=True)
    return scores.gain_db
