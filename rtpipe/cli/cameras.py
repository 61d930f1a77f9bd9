"""``rtpipe cameras``: what is attached, what it can do, and whether it works."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rtpipe.machine.cameras import Listing, Seen
    from rtpipe.selftest.result import Report


def cameras(
    serial: Annotated[str, typer.Argument(help="Only the camera with this serial number.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print the same facts as JSON.")] = False,
    no_open: Annotated[
        bool, typer.Option("--no-open", help="Only look: open no camera to ask what it can do.")
    ] = False,
    self_test: Annotated[
        bool, typer.Option("--self-test", help="Check a camera from end to end, with a report to send.")
    ] = False,
    seconds: Annotated[float, typer.Option(help="With --self-test: how long the main look is.")] = 10.0,
    out: Annotated[Path, typer.Option(help="With --self-test: where report and picture go.")] = Path(),
    unplug: Annotated[
        bool, typer.Option("--unplug/--no-unplug", help="With --self-test: ask for the cable to be pulled.")
    ] = True,
) -> None:
    """Every camera that is attached, as all back ends see it: model, serial, resolution, USB speed, firmware, what its
    hardware can do, which back end opens it, and what is wrong with what to do.

    Cameras that no process uses are opened for a moment to be asked. That none is attached is an answer: exit code 0.

    --self-test opens one by its real driver and goes through the ten-minute checklist of docs/cameras.md: streams,
    rates, clock, order, coordinates, pictures, IMU, triggers, each setting, a reader that stalls, the cable pulled.
    Exit code 1 if anything failed.

    Examples:

        rtpipe cameras

        rtpipe cameras --json

        rtpipe cameras --self-test

        rtpipe cameras 00000336 --self-test --no-unplug --out reports
    """
    import msgspec

    from rtpipe.errors import InputError
    from rtpipe.machine.cameras import listing, same_serial

    if not 1 <= seconds <= 600:
        raise InputError(f"--seconds {seconds:g}: 1 to 600 wanted")
    found = listing(look_inside=not no_open or self_test)
    if serial:
        found = msgspec.structs.replace(
            found, cameras=tuple(each for each in found.cameras if same_serial(each.serial, serial))
        )
    if self_test:
        report = _self_test(found, serial, seconds, out, unplug, quiet=json)
        if json:
            typer.echo(msgspec.json.format(msgspec.json.encode(report)).decode())
        raise typer.Exit(0 if report.ok else 1)
    if json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
        return
    for line in lines(found, serial):
        typer.echo(line)


def lines(found: Listing, serial: str = "") -> Iterator[str]:
    """What is printed."""
    for camera in found.cameras:
        yield from _described(camera)
    if not found.cameras:
        yield f"No camera with serial {serial} is attached." if serial else "No event camera is attached."
        if found.usb:
            yield "  Check the cable and the port (USB 3); cameras that need permission would be listed."
        else:
            yield "  This machine shows no USB: a container sees it only if it is passed in (--device=/dev/bus/usb)."
        yield "  Without a camera: rtpipe demo, or rtpipe run PIPELINE --source FILE"
    for backend in found.backends:
        if backend.why_not and not found.cameras:
            yield f"{backend.name}: {backend.why_not}"
            yield f"  → {backend.install}"
        elif backend.trouble:
            yield f"{backend.name}: {backend.trouble}"
    if not found.backends:
        yield "No back end is installed: pip install 'rtpipe[cameras]'"


def _described(camera: Seen) -> Iterator[str]:
    yield f"{camera.model} {camera.serial}".strip()
    size = "" if camera.resolution is None else "{}x{}".format(*camera.resolution)
    firmware = f"firmware {camera.firmware}" if camera.firmware else ""
    about = ", ".join(filter(None, (size, camera.connection, firmware, ", ".join(camera.streams))))
    if about:
        yield f"  {about}"
    if camera.backends:
        others = [name for name in camera.backends if name != camera.chosen]
        by = f"  opened by {camera.chosen}" if camera.chosen else "  would be opened by"
        more = f"{', also by' if camera.chosen else ''} {', '.join(others)}" if others else ""
        yield f"{by}{more}" + (f"; driver: {camera.driver}" if camera.driver else "")
    for capability in camera.capabilities:
        says = f" {capability.says}" if capability.says else ""
        yield f"    {capability.name}{says}" + ("" if capability.where == "hardware" else f" ({capability.where})")
    if camera.problem:
        yield f"  cannot be used: {camera.problem}"
    if camera.mend:
        yield f"  → {camera.mend}"


def _self_test(found: Listing, serial: str, seconds: float, out: Path, unplug: bool, quiet: bool) -> Report:
    import msgspec

    from rtpipe import registry
    from rtpipe.errors import WorldError
    from rtpipe.machine import usb
    from rtpipe.selftest.run import Plan, run, summary

    camera = _chosen(found, serial)
    module = registry.load("drivers", camera.driver)
    settings = msgspec.convert({"serial": camera.serial, "backend": camera.chosen}, module.Settings)

    def listed() -> bool:
        return any(usb.among([camera.model], each) for each in usb.cameras() or ())

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorldError(f"{out} cannot be made: {error.strerror}") from error
    person = _Terminal(quiet)
    plan = Plan(
        camera.driver,
        module.Driver(settings),
        camera.capabilities,
        seconds,
        listed=listed if listed() else None,
        unplug=unplug,
    )
    report, sample = run(plan, person)
    person.say(summary(report))
    stem = f"camera-{camera.model}-{camera.serial}-{report.when[:19]}"
    _keep(
        report, sample, out / "".join(letter if letter.isalnum() or letter == "-" else "-" for letter in stem), person
    )
    return report


def _chosen(found: Listing, serial: str) -> Seen:
    """The one camera that is tested. Raises ``WorldError``."""
    from rtpipe.errors import WorldError

    if not found.cameras:
        raise WorldError(f"no camera {f'with serial {serial} ' if serial else ''}is attached: rtpipe cameras says more")
    if len(found.cameras) > 1:
        serials = ", ".join(each.serial or each.model for each in found.cameras)
        raise WorldError(f"several cameras are attached: rtpipe cameras SERIAL --self-test, with one of {serials}")
    (camera,) = found.cameras
    if camera.problem or not camera.chosen or not camera.driver:
        why = camera.problem or "no driver of rtpipe takes it"
        raise WorldError(f"{camera.model} {camera.serial}: {why}" + (f" → {camera.mend}" if camera.mend else ""))
    return camera


def _keep(report: Report, sample: object, stem: Path, person: _Terminal) -> None:
    """The report as JSON and as a picture."""
    import cv2
    import msgspec

    from rtpipe.selftest.picture import draw

    path = stem.with_suffix(".json")
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    cv2.imwrite(str(stem.with_suffix(".png")), draw(report, sample))  # type: ignore[arg-type]
    person.say(f"Kept in {path} and {stem.with_suffix('.png').name}: please send both, whatever they say.")


class _Terminal:
    """Who sits in front of this terminal; without one nobody is asked."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet

    def say(self, text: str) -> None:
        """One line; on stderr where stdout is JSON."""
        typer.echo(text, err=self._quiet)

    def ask(self, text: str) -> bool:
        """Enter when it is about to be done, ``s`` skips it."""
        import sys

        if not sys.stdin.isatty():
            return False
        answer = typer.prompt(
            f"{text}, and press Enter at once (s skips this)", default="", show_default=False, err=True
        )
        return not str(answer).strip().lower().startswith("s")
