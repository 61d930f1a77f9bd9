"""``rtpipe run``: a pipeline file, or the name of a shipped one, from its sources to its sinks."""

from __future__ import annotations

import json as json_module
import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rtpipe.pipeline.supervisor import RunResult


def run(
    config: Annotated[str, typer.Argument(help="A pipeline file, or the name of a shipped one (replay-deblur).")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Any key of the file, by its path.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="A recording or a driver in place of the file's first source.")
    ] = None,
    headless: Annotated[bool, typer.Option("--headless", help="Without displays.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the ledger as JSON at the end.")] = False,
) -> None:
    """Run a pipeline until its source ends; Ctrl-C (once) stops it with everything drained and closed.

    Examples:

        rtpipe run replay-deblur --source city.aedat4

        rtpipe run replay-deblur --source city.aedat4 sources.camera.speed=0.5 sources.camera.loop=true

        rtpipe run my-pipeline.yaml sinks.0.dir=/data --headless

    While it runs, `rtpipe control pause`, `rtpipe control "seek 1.5"` and the like steer it.
    """
    from rtpipe.pipeline.config import load

    result = execute(load(config, source=source, overrides=overrides or []), headless=headless, quiet=json)
    if json:
        typer.echo(as_json(result))
    else:
        show(result)
    raise typer.Exit(result.exit_code)


def execute(config: object, *, headless: bool, quiet: bool) -> RunResult:
    """Run a checked pipeline with its status on the terminal."""
    from dataclasses import replace

    from rtpipe.pipeline.config import PipelineConfig
    from rtpipe.pipeline.supervisor import Supervisor

    assert isinstance(config, PipelineConfig)
    if headless:
        config = replace(config, sinks={n: part for n, part in config.sinks.items() if part.kind != "display"})
    with _Terminal(quiet) as terminal:
        return Supervisor(config, on_status=terminal.say, on_error=terminal.error).run()


class _Terminal:
    """One status line that is rewritten in place on a terminal, and nothing elsewhere."""

    def __init__(self, quiet: bool) -> None:
        self._live = not quiet and sys.stderr.isatty()

    def __enter__(self) -> _Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            sys.stderr.write("\r\x1b[2K")

    def error(self, line: str) -> None:
        """What went wrong, at once and for good."""
        if self._live:
            sys.stderr.write("\r\x1b[2K")
        typer.echo(f"rtpipe: {line}", err=True)

    def say(self, line: str) -> None:
        """The state, over the last one."""
        if self._live:
            import shutil

            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r\x1b[2K{line[:width]}")
            sys.stderr.flush()


def show(result: RunResult) -> None:
    """The ledger as a table, what was lost by name, where the files are."""
    from rich.console import Console

    from rtpipe.pipeline import accounts

    if result.exit_code != 2:
        console = Console()
        for table in accounts.tables(result.accounts):
            console.print(table)
        console.print(summary(result), highlight=False)
        for line in accounts.losses(result.accounts):
            console.print(line, highlight=False)
        for name, fact, value in facts(result):
            line = f"{name}: {value if fact == name else f'{fact} {value}'}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    if result.log_directory is not None:  # what went wrong was said when it did
        typer.echo(f"rtpipe: what the processes printed is in {result.log_directory}", err=True)


def summary(result: RunResult) -> str:
    """Event rate over the recording's own time, and the latency into the sinks."""
    from rtpipe.clocks.relation import relations
    from rtpipe.pipeline import accounts

    words = []
    for name, account in result.accounts.items():
        last = account.last
        if account.plan.role == "driver" and last is not None:
            events = max((ledger.offered.events for ledger in last.sent), default=0)
            words.append(f"{name}: {events:,} events" + (f", {_rate(events, last.position_s)}" if events else ""))
    for edge in accounts.edges(result.accounts):
        if edge.latency is not None and edge.latency.n and edge.name.startswith("engine->"):
            p50, p99 = edge.latency.p50_us / 1e3, edge.latency.p99_us / 1e3
            words.append(f"arrival to {edge.name.removeprefix('engine->')}: p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    sensor = accounts.sensor_latency(result.accounts)
    if sensor is not None:
        p50, p99 = sensor[1].p50_us / 1e3, sensor[1].p99_us / 1e3
        words.append(
            f"{sensor[0]}: p50 {p50:.1f} ms, p99 {p99:.1f} ms, beside the constant part of the way to the host"
        )
    clocks = accounts.clocks(result.accounts)
    words += [f"clocks: {each.words}" for each in relations(clocks, accounts.synchronised(result.accounts))]
    return "\n".join(words)


def _rate(events: int, seconds: float | None) -> str:
    return f"{events / seconds / 1e6:.2f} Mev/s of camera time" if seconds else "no time passed"


def facts(result: RunResult) -> list[tuple[str, str, str]]:
    """(worker, what, value) of everything the parts had to say at their end: files written, the engine's estimate."""
    return [
        (name, fact, value)
        for name, account in result.accounts.items()
        if account.last is not None
        for fact, value in account.last.facts.items()
    ]


def as_json(result: RunResult) -> str:
    """The run as JSON: exit code, errors, losses, each edge and stage."""
    import msgspec

    from rtpipe.clocks.relation import relations
    from rtpipe.pipeline import accounts

    clocks = accounts.clocks(result.accounts)
    return json_module.dumps(
        {
            "exit_code": result.exit_code,
            "errors": list(result.errors),
            "losses": accounts.losses(result.accounts),
            "seconds": round(result.seconds, 3),
            "edges": {
                edge.name: {
                    "offered": msgspec.to_builtins(edge.offered),
                    "delivered": msgspec.to_builtins(edge.delivered),
                    "dropped": msgspec.to_builtins(edge.dropped),
                    "latency": msgspec.to_builtins(edge.latency),
                }
                for edge in accounts.edges(result.accounts)
            },
            "stages": {
                name: msgspec.to_builtins(account.last.flows)
                for name, account in result.accounts.items()
                if account.last is not None and account.last.flows
            },
            "deaths": {name: account.deaths for name, account in result.accounts.items() if account.deaths},
            "sensor": _sensor(result),
            "clocks": [msgspec.to_builtins(each) for each in relations(clocks, accounts.synchronised(result.accounts))],
            "facts": [{"of": name, "fact": fact, "value": value} for name, fact, value in facts(result)],
        },
        indent=2,
    )


def _sensor(result: RunResult) -> dict[str, object]:
    """From the sensor to the screen, or to the picture made: p50 and p99 in µs."""
    import msgspec

    from rtpipe.pipeline import accounts

    found = accounts.sensor_latency(result.accounts)
    return {} if found is None else {"what": found[0], **msgspec.to_builtins(found[1])}
