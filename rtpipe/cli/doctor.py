"""``rtpipe doctor``: what this machine can do, what is missing, and the command that mends it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from rtpipe.machine.examine import Probe
    from rtpipe.machine.fact import Fact

COLOURS = {"ok": "green", "note": "yellow", "missing": "red"}


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print the same facts as JSON.")] = False,
    install_udev: Annotated[
        bool, typer.Option("--install-udev", help="Print the udev rules by which cameras may be opened.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --install-udev: put them in place (as root).")] = False,
    root: Annotated[Path, typer.Option(help="With --install-udev --yes: an image's root directory.")] = Path("/"),
) -> None:
    """What this machine can do, what is missing, and the one command that mends it.

    Exit code 0 if rtpipe can run here, 1 if a part that it needs is broken.

    --install-udev prints the rules on stdout and what to do with them on stderr; with --yes it does it, and may do it
    again.

    Examples:

        rtpipe doctor

        rtpipe doctor --json

        rtpipe doctor --install-udev

        sudo $(command -v rtpipe) doctor --install-udev --yes
    """
    if install_udev or yes:
        _install_udev(yes, root)
        return
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

    from rtpipe import runtimes
    from rtpipe.machine import base, cameras, extras, usb
    from rtpipe.machine.examine import Probe
    from rtpipe.machine.jetson import jetson
    from rtpipe.registry import GROUPS, names

    def text(path: str) -> str:
        return Path(path).read_text(errors="replace")

    nvidia, board = extras.nvidia_gpu(Path("/")), jetson(Path("/"))
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
        Probe("accelerators", "GPU", lambda: extras.gpu(nvidia, runtimes.gpu(), board)),
        Probe("accelerators", "ONNX Runtime", extras.onnx_runtime),
        Probe("accelerators", "PyTorch", partial(extras.torch, nvidia)),
        Probe(
            "accelerators", "TensorRT", lambda: extras.tensorrt(runtimes.builder().tensorrt(), runtimes.gpu(), board)
        ),
        Probe("accelerators", "networks", lambda: extras.networks(runtimes.builder())),
        *[Probe("cameras", name, partial(cameras.backend, name)) for name in names("backends")],
        Probe("cameras", "USB", usb.facts),
        *[Probe("parts", group, partial(base.parts, group), required=True) for group in GROUPS],
    ]


def _install_udev(yes: bool, root: Path) -> None:
    import os

    from rtpipe.machine import udev

    if not yes:
        typer.echo(udev.rules(), nl=False)
        target = Path("/") / udev.DIRECTORY / udev.FILE
        for line in (
            "",
            "To put them in place:  sudo $(command -v rtpipe) doctor --install-udev --yes",
            f"or by hand:            rtpipe doctor --install-udev 2>/dev/null | sudo tee {target} >/dev/null",
            f"                       sudo {' '.join(udev.RELOAD)} && sudo {' '.join(udev.TRIGGER)}",
            f"For services and SSH:  sudo usermod --append --groups {udev.GROUP} $USER   (from the next login on)",
        ):
            typer.echo(line, err=True)
        return
    user = os.environ.get("SUDO_USER") or os.environ.get("USER", "")
    done = udev.install(root, user=user)
    typer.echo(f"{done.path} {'written' if done.changed else 'is in place already'}")
    for line in done.missed:
        typer.echo(f"to do: {line}")


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
