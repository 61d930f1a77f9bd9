"""``rtpipe doctor``: what this machine can do, what is missing, and the command that mends it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from rtpipe.machine.examine import Probe
    from rtpipe.machine.fact import Fact

COLOURS = {"ok": "green", "note": "yellow", "missing": "red"}


def doctor(json: Annotated[bool, typer.Option("--json", help="Print the same facts as JSON.")] = False) -> None:
    """What this machine can do, what is missing, and the one command that mends it.

    Exit code 0 if rtpipe can run here, 1 if a part that it needs is broken.

    Examples:

        rtpipe doctor

        rtpipe doctor --json
    """
    from rtpipe.machine.examine import examine

    facts = examine(probes())
    can_run = not any(fact.required and fact.state == "missing" for fact in facts)
    if json:
        import msgspec

        answer = msgspec.json.encode({"can_run": can_run, "facts": facts})
        typer.echo(msgspec.json.format(answer).decode())
    else:
        from rich.console import Console

        console = Console()
        if not console.is_terminal:
            console.width = 200  # piped into a file or a pager: one fact, one line
        console.print(table(facts))
        console.print("rtpipe can run here." if can_run else "rtpipe cannot run here: mend what is missing above.")
    raise typer.Exit(0 if can_run else 1)


def probes() -> list[Probe]:
    """Everything to look at, in the order in which it is printed. Imports nothing heavy."""
    import os
    from functools import partial
    from pathlib import Path

    from rtpipe.machine import base, extras
    from rtpipe.machine.examine import Probe
    from rtpipe.registry import GROUPS

    def text(path: str) -> str:
        return Path(path).read_text(errors="replace")

    nvidia = extras.nvidia_gpu(Path("/"))
    sys_usb, dev_usb = Path("/sys/bus/usb/devices"), Path("/dev/bus/usb")
    return [
        Probe("machine", "rtpipe", base.rtpipe),
        Probe("machine", "Python", base.python, required=True),
        Probe("machine", "processor", lambda: base.processor(text("/proc/cpuinfo"), len(os.sched_getaffinity(0)))),
        Probe("machine", "memory", lambda: base.memory(text("/proc/meminfo"))),
        Probe("machine", "recordings", partial(base.recordings, Path("recordings"))),
        *[Probe("base", name, partial(base.package, name), required=True) for name in base.base_packages()],
        Probe("base", "kernels", base.kernels, required=True),
        Probe("base", "transport", base.transport, required=True),
        Probe("base", "video", partial(base.encoders, bool(nvidia))),
        Probe("base", "display", base.screen),
        Probe("accelerators", "GPU", partial(extras.gpu, nvidia)),
        Probe("accelerators", "ONNX Runtime", extras.onnx_runtime),
        Probe("accelerators", "PyTorch", partial(extras.torch, nvidia)),
        Probe("accelerators", "TensorRT", partial(extras.tensorrt, nvidia)),
        *[
            Probe("cameras", name, partial(extras.camera_package, name))
            for name in ("dv-processing", "neuromorphic-drivers")
        ],
        Probe("cameras", "Metavision", extras.metavision),
        Probe("cameras", "USB", partial(extras.usb_cameras, sys_usb, dev_usb)),
        *[Probe("parts", group, partial(base.parts, group), required=True) for group in GROUPS],
    ]


def table(facts: Sequence[Fact]) -> Table:
    """The facts as they are printed: base packages that work on one line, every other fact on its own, and below it the
    command that mends it."""
    from rich.table import Table
    from rich.text import Text

    from rtpipe.machine.base import base_packages

    packages = set(base_packages())
    well = [fact for fact in facts if fact.group == "base" and fact.part in packages and fact.state == "ok"]
    grid = Table(box=None, pad_edge=False, show_header=False)
    grid.add_column()
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    group = ""
    for fact in facts:
        if fact.group != group:
            group = fact.group
            grid.add_row(Text(group, style="bold"))
            if group == "base" and well:
                says = ", ".join(f"{ok.part} {ok.says}" for ok in well)
                grid.add_row(Text("OK", style="green"), "packages", Text(says))
        if fact in well:
            continue
        word = "OK" if fact.state == "ok" else fact.state
        grid.add_row(Text(word, style=COLOURS[fact.state]), Text(fact.part), Text(fact.says))
        if fact.mend:
            grid.add_row("", "", Text(f"→ {fact.mend}", style="cyan"))
    return grid
