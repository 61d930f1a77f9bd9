"""The command line: one module per verb, all errors in one or two plain lines.

Exit codes: 0 done, 1 failed, 2 bad input or configuration.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import version

import typer

from rtpipe.cli import bench, cameras, control, convert, demo, doctor, engines, info, keys, run, simulate
from rtpipe.errors import RtpipeError

app = typer.Typer(
    name="rtpipe",
    help="Real-time streaming pipeline for event cameras: live deblurring and reconstruction.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _verb in (demo.demo, run.run, cameras.cameras, info.info, convert.convert, simulate.simulate, doctor.doctor):
    app.command()(_verb)
app.command(context_settings={"ignore_unknown_options": True})(control.control)  # so that "seek -1" is no option
app.add_typer(bench.app, name="bench")
app.add_typer(engines.app, name="engines")
app.add_typer(keys.app, name="keys")


@app.callback(invoke_without_command=True)
def _options(
    show_version: bool = typer.Option(False, "--version", help="Print the version and end.", is_eager=True),
) -> None:
    if show_version:
        typer.echo(f"rtpipe {version('rtpipe')}")
        raise typer.Exit


def main() -> None:
    """Entry point of ``rtpipe``."""
    try:
        app()
    except RtpipeError as error:
        typer.echo(f"rtpipe: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("rtpipe: interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone (| head): nothing to say, and no traceback at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
