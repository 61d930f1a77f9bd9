"""``rtpipe engines check``: every runtime of this machine beside the reference, errors and speed side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from rtpipe.check.check import Checked, Report

TITLES = {"tensorrt": "TensorRT", "onnxruntime": "ONNX Runtime", "torch": "PyTorch"}
DEVICES = {"cuda": "GPU", "cpu": "CPU"}
COLOURS = {"right": "green", "wrong": "red", "failed": "red", "absent": "yellow"}
Precision = Literal["auto", "fp16", "fp32"]


def check(
    network: Annotated[str, typer.Argument(help="A network, as `rtpipe engines list` names it.")],
    size: Annotated[
        list[str] | None,
        typer.Option(help="Picture size, WIDTHxHEIGHT; may be repeated; odd and usual ones if left out."),
    ] = None,
    precision: Annotated[Precision, typer.Option(help="On a GPU; auto: both.")] = "auto",
    weights: Annotated[str, typer.Option(help="Installed weights by name, or a file; without it the usual ones.")] = "",
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Random numbers for weights; taken by itself where none are here.")
    ] = False,
    seconds: Annotated[float, typer.Option(help="How long each is timed.", min=0.0, max=600.0)] = 2.0,
    report: Annotated[
        Path | None, typer.Option(help="Write what --json prints to this file: a report to send.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print all of it, and this machine's facts, as JSON.")] = False,
) -> None:
    """Compute the same scene with every runtime of this machine and compare.

    The reference is single precision on the processor. Several steps of a recurrent network, a silent window and a
    reset are part of it. Exit code 1 if a runtime that is here computes something else, or fails.

    Examples:

        rtpipe engines check efnet --size 346x260

        rtpipe engines check nernet --size 1280x720 --precision fp16 --seconds 5

        rtpipe engines check firenet --report firenet-orin.json
    """
    from rtpipe.check.check import check as run
    from rtpipe.cli.engines import parsed_size
    from rtpipe.cli.waiting import Waiting
    from rtpipe.errors import InputError, WorldError

    if random_weights and weights:
        raise InputError("--weights or --random-weights, not both")
    sizes = [parsed_size(text) for text in dict.fromkeys(size or ())]
    if report is not None and report.is_dir():
        raise InputError(f"{report}: a folder; a file is wanted")
    with Waiting(quiet=json) as waiting:
        done = run(
            network,
            sizes,
            precision=precision,
            weights=weights,
            made_up=True if random_weights else None,
            seconds=seconds,
            progress=waiting.say,
        )
        text = as_json(done) if json or report is not None else ""
    if report is not None:
        try:
            report.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise WorldError(f"{report}: {error.strerror or error}") from error
    if json:
        typer.echo(text)
    else:
        show(done)
    raise typer.Exit(0 if done.right else 1)


def show(report: Report) -> None:
    """The report for people."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = 200  # piped into a file or a pager: one fact, one line
    for line in heading(report):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for size in dict.fromkeys(each.size for each in report.ways if each.state != "absent"):
        console.print(table([each for each in report.ways if each.size == size], f"{size[0]}x{size[1]}"))
    for each in report.ways:
        if each.state == "absent":
            line = f"not here: {title(each)}: {each.says}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(conclusion(report), markup=False, highlight=False, soft_wrap=True)


def heading(report: Report) -> list[str]:
    """What was checked, on what, by which measure."""
    from rtpipe.check.verdict import ALLOWED

    gpu = report.gpu
    weights = "random numbers for weights: errors count, pictures say nothing" if report.random else report.weights
    bounds = "; ".join(
        f"{name}: {100 * allowed.largest:g} % at most, {100 * allowed.mean:g} % on average"
        + ("" if report.random else f", picture {allowed.psnr_db:.0f} dB")
        for name, allowed in ALLOWED.items()
    )
    return [
        f"{report.network} ({weights})",
        f"GPU: {gpu['name']}, compute capability {gpu['compute_capability']}" if gpu else "GPU: none",
        f"errors allowed, as shares of the reference's range: {bounds}",
    ]


def title(checked: Checked) -> str:
    """A runtime, where it runs, how precisely."""
    name = TITLES.get(checked.runtime, checked.runtime)
    return ", ".join(filter(None, (name, DEVICES.get(checked.device, checked.device), checked.precision)))


def table(ways: list[Checked], size: str) -> Table:
    """The ways at one size side by side."""
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, header_style="bold", title=size, title_justify="left")
    grid.add_column("", no_wrap=True)
    grid.add_column("verdict", overflow="fold")
    heads = (
        "max error",
        "mean error",
        "PSNR",
        "ms p50",
        "p99",
        "overlapped",
        "picture ms",
        "p99",
        "per s",
        "MiB",
        "GPU MiB",
    )
    for head in heads:
        grid.add_column(head, justify="right", no_wrap=True)
    for each in ways:
        word = "reference" if each.reference else each.state
        says = "" if each.reference or not each.says else f": {each.says}"
        errors = [_error(each.max_error), _error(each.mean_error), _psnr(each)]
        times = [each.network_p50_ms, each.network_p99_ms, each.overlapped_ms, each.picture_p50_ms, each.picture_p99_ms]
        rest = [_number(each.per_second), _number(each.host_mib), _number(each.gpu_mib)]
        verdict = Text(word, style=COLOURS[each.state]).append(says, style="default")
        grid.add_row(Text(title(each)), verdict, *errors, *(_ms(one) for one in times), *rest)
    return grid


def conclusion(report: Report) -> str:
    """The last line."""
    ran = [each for each in report.ways if each.state != "absent"]
    bad = [f"{title(each)} at {each.size[0]}x{each.size[1]}" for each in ran if each.state in ("wrong", "failed")]
    if bad:
        return f"NOT RIGHT: {'; '.join(bad)}. Send the report of --report FILE with your question."
    others = sum(not each.reference for each in ran)
    return f"all {others} are right" if others > 1 else "right" if others else "nothing but the reference can run here"


def as_json(report: Report) -> str:
    """The report with this machine's facts: what somebody who was not there needs to know."""
    import msgspec

    from rtpipe.cli.doctor import probes
    from rtpipe.machine.examine import examine

    told = [probe for probe in probes() if probe.group in ("machine", "accelerators")]
    facts: dict[str, Any] = {"machine": examine(told), **msgspec.to_builtins(report)}
    return msgspec.json.format(msgspec.json.encode(facts)).decode()


def _error(value: float | None) -> str:
    return "" if value is None else f"{value:.1e}"


def _psnr(checked: Checked) -> str:
    if checked.same_picture:
        return "same"
    return "" if checked.psnr_db is None else f"{checked.psnr_db:.1f} dB"


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"
