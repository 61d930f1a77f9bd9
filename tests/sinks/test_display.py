"""Display: a real window on a virtual screen shows the panels, its keys give commands; without a screen all goes on."""

import ctypes
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtpipe import registry
from rtpipe.sinks import overlay
from rtpipe.sinks.display import DELIVERY, KEYS, Settings, Sink, action_of, wants
from rtpipe.sinks.layout import STRIP
from rtpipe.types import Count, Counters, Frame, Packet, StreamInfo

SHOW = Path(__file__).with_name("show.py")
TOOLS = ("Xvfb", "xdotool", "import")
PATIENCE_S = 30
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
DISPLAYS = iter(range(100 + 1000 * WORKER, 1100 + 1000 * WORKER))
"""No number twice: a server that ends takes away the socket of one that has just begun under the same number."""


class Screen:
    """A virtual screen, what a user does there, and what can be seen."""

    def __init__(self, display: str):
        self.environment = {**os.environ, "DISPLAY": display}
        self.environment.pop("WAYLAND_DISPLAY", None)
        self.display = display

    def do(self, *words: str) -> str:
        return subprocess.run(
            ["xdotool", *words], env=self.environment, capture_output=True, text=True, check=False, timeout=30
        ).stdout

    def press(self, key: str) -> None:
        self.do("key", key)

    def window(self) -> str:
        """The window's id, once it is there, with the keyboard's attention."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for found in self.do("search", "--onlyvisible", "--name", "^rtpipe$").split():
                self.do("mousemove", "--window", found, "100", "100", "windowfocus", "--sync", found)
                if self.do("getwindowfocus").split() == [found]:
                    return found
            time.sleep(0.1)
        raise AssertionError("no window came")

    def look(self) -> np.ndarray:
        png = subprocess.run(
            ["import", "-window", "root", "png:-"], env=self.environment, capture_output=True, check=True, timeout=30
        ).stdout
        return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)

    def look_until(self, seen) -> np.ndarray:
        """A screenshot for which ``seen`` holds: what a key does is there a moment later."""
        deadline = time.monotonic() + PATIENCE_S
        while not seen(image := self.look()):
            assert time.monotonic() < deadline, "never came to be seen"
            time.sleep(0.1)
        return image

    def click_close(self, window: str) -> None:
        """What a window manager does when the user clicks the cross: it asks the window to close."""
        x11 = ctypes.CDLL("libX11.so.6")
        x11.XOpenDisplay.restype = ctypes.c_void_p
        x11.XInternAtom.restype = ctypes.c_ulong
        display = ctypes.c_void_p(x11.XOpenDisplay(self.display.encode()))
        kind = x11.XInternAtom(display, b"WM_PROTOCOLS", 0)
        close = x11.XInternAtom(display, b"WM_DELETE_WINDOW", 0)
        event = (ctypes.c_long * 24)()  # XClientMessageEvent: type, serial, send_event, display, window, ...
        event[0], event[4], event[5], event[6], event[7] = 33, int(window), kind, 32, close
        assert x11.XSendEvent(display, ctypes.c_ulong(int(window)), 0, ctypes.c_long(0), ctypes.byref(event))
        x11.XCloseDisplay(display)


@pytest.fixture
def screen() -> Iterator[Screen]:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        reason = f"needs {', '.join(missing)} (Debian: xvfb xdotool imagemagick)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    server, number = next(started for started in map(_start, DISPLAYS) if started is not None)
    try:
        yield Screen(f":{number}")
    finally:
        server.terminate()
        server.wait()


def _start(number: int) -> tuple[subprocess.Popen[bytes], int] | None:
    """A virtual screen of this number; None where there is one already."""
    ours, theirs = os.pipe()
    command = ["Xvfb", f":{number}", "-displayfd", str(theirs), "-screen", "0", "1400x900x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=(theirs,), stderr=subprocess.DEVNULL)
    os.close(theirs)
    with os.fdopen(ours) as answer:
        if answer.readline().strip() == str(number):
            return server, number
    server.kill()
    server.wait()
    return None


class Show:
    """The sink at work in its own process."""

    def __init__(self, screen: Screen, snapshots: Path):
        self.process = subprocess.Popen(
            [sys.executable, str(SHOW), str(snapshots)],
            env=screen.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.line().startswith("opened"), self.process.communicate()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def end(self) -> tuple[str, str]:
        """The last line printed, and what was complained about."""
        out, err = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 0, err
        return out.splitlines()[-1], err


@pytest.fixture
def show(screen, tmp_path) -> Iterator[Show]:
    shown = Show(screen, tmp_path / "snaps")
    yield shown
    shown.process.kill()
    shown.process.wait()


def pixels(image, colour):
    """Where this colour (BGR, within 8) is."""
    return (np.abs(image.astype(int) - colour) <= 8).all(axis=2)


def amount(image, colour):
    """How many pixels below the title strip have this colour."""
    return int(pixels(image[STRIP:], colour).sum())


def span(image, colour):
    """First and last column in which there is much of this colour."""
    across = np.flatnonzero(pixels(image, colour).sum(axis=0) > 50)
    return (int(across[0]), int(across[-1])) if len(across) else None


GREY, GREEN, RED = (200, 200, 200), (0, 160, 0), (0, 0, 160)
PANEL = 320 * 240


def test_three_panels_are_seen_and_keys_change_what_is_seen(screen, show, tmp_path):
    screen.window()
    image = screen.look_until(lambda image: amount(image, RED) > PANEL // 2)
    spans = [span(image, colour) for colour in (GREY, GREEN, RED)]
    assert [right - left + 1 for left, right in spans] == [320, 320, 320]
    assert spans[0][0] == 0
    assert spans[0][1] < spans[1][0] < spans[1][1] < spans[2][0]
    numbers = PANEL - amount(image, GREY)
    assert numbers > 320 * overlay.LINE  # shaded for the numbers along the bottom

    screen.press("o")
    image = screen.look_until(lambda image: amount(image, GREY) == PANEL)
    screen.press("h")
    image = screen.look_until(lambda image: amount(image, GREEN) < PANEL * 0.8)
    screen.press("h")  # OpenCV keeps one key: the next is pressed when this one has been seen to
    screen.look_until(lambda image: amount(image, GREEN) == PANEL)
    screen.press("r")
    screen.look_until(lambda image: pixels(image[:STRIP], overlay.RED).sum() > 50)
    assert show.line() == "record on"

    screen.press("s")
    image = screen.look_until(lambda image: amount(image, GREY) < PANEL)  # the path is shown
    (snapshot,) = (tmp_path / "snaps").iterdir()
    saved = cv2.imread(str(snapshot))
    assert [amount(saved, colour) for colour in (GREY, GREEN, RED)] == [PANEL] * 3

    screen.press("p")  # a column
    image = screen.look_until(lambda image: span(image, GREY) == span(image, RED) == (0, 159))
    screen.press("p")  # the frame alone
    image = screen.look_until(lambda image: amount(image, RED) == amount(image, GREEN) == 0)
    assert span(image, GREY) == (0, 319)


def test_keys_give_commands_and_q_ends_it(screen, show):
    screen.window()
    wanted = {
        "space": ["pause"],
        "period": ["step"],
        "Left": ["seek -1"],
        "Right": ["seek +1"],
        "plus": ["speed 2"],
        "KP_Add": ["speed 4"],
        "minus": ["speed 2"],
        "r": ["record on"],
    }
    for key, commands in wanted.items():
        screen.press(key)
        assert [show.line() for _ in commands] == commands
    for key, commands in {"R": ["record off"], "space": ["resume"], "period": ["pause", "step"]}.items():
        screen.press(key)
        assert [show.line() for _ in commands] == commands
    screen.press("q")
    assert show.line() == "stop"
    flow, _ = show.end()
    assert flow.startswith("flow True")
    assert flow.endswith(("[]", "['superseded']"))


def test_escape_ends_it(screen, show):
    screen.window()
    screen.press("Escape")
    assert show.line() == "stop"


def test_closing_the_window_stops_and_it_does_not_come_back(screen, show):
    window = screen.window()
    screen.look_until(lambda image: amount(image, RED) > PANEL // 2)
    screen.click_close(window)
    assert show.line() == "stop"
    flow, _ = show.end()
    assert flow.startswith("flow True")
    assert not screen.look().any()


@pytest.mark.parametrize("display", [None, ":9731"])
def test_without_a_screen_nothing_aborts_and_one_line_says_so(tmp_path, display):
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    if display is not None:
        environment["DISPLAY"] = display
    ran = subprocess.run(
        [sys.executable, str(SHOW), str(tmp_path), "5"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )
    reason = "DISPLAY is not set" if display is None else "the screen at :9731 cannot be used"
    assert ran.stdout.splitlines() == [f"opened none: {reason}", "flow True 15 0 ['no screen']"]
    assert ran.stderr == f"display: no window: {reason}; the run goes on without it\n"


def test_it_is_found_by_name():
    module = registry.load("sinks", "display")
    assert module.Sink is Sink
    assert DELIVERY == "latest"
    assert wants(Settings(panels=("output", "events"))) == ("output", "picture")


def test_closing_what_was_never_opened_is_no_harm():
    sink = Sink(Settings())
    assert sink.idle() == ()
    sink.close()
    assert sink.flows["frames"].balanced


def test_other_keys_mean_nothing_and_capitals_what_small_letters_mean():
    assert [action_of(key) for key in (ord("x"), 0xFFE1, 0, ord("@"))] == [""] * 4
    assert action_of(ord("R")) == action_of(ord("r")) == "record"
    assert action_of(0x100000 | 0xFF51) == "back"  # Num Lock is on


def test_help_names_every_key():
    named = " ".join(keys for keys, _ in overlay.KEYS_HELP)
    for key in (chr(code) for code in KEYS if 0x20 < code < 0x7F and code != ord("=")):
        assert key in named


def test_meter_tells_rate_latency_and_loss():
    meter = overlay.Meter(span_ns=1_000_000_000)
    ms = 1_000_000
    for i in range(200):
        meter.shown(1_000_000_000_000 + i * 10 * ms, 1_000_000_000_000 + i * 10 * ms - (i % 100) * ms)
    meter.counted("a/frames", Counters(Count(9), {"latest": Count(3), "overflow": Count(0)}))
    meter.counted("a/frames", Counters(Count(19), {"latest": Count(4)}))  # cumulative: not added up
    meter.counted("b/output", Counters(Count(9), {"latest": Count(2)}))
    line = meter.line(1_000_000_000_000 + 1990 * ms, {"superseded": 5})
    assert line == "shown 101.0/s   latency p50 50.0 ms, p99 99.0 ms   not shown: latest 6, superseded 5"
    assert meter.line(2_000_000_000_000, {}) == "shown 0.0/s   not shown: latest 6"


def test_text_fits_into_any_picture():
    for shape in ((1, 1, 3), (10, 30, 3), (60, 80, 3), (1700, 2500, 3)):
        image = np.full(shape, 255, np.uint8)
        overlay.draw_lines(image, ["a line that is far too long for this " * 10, ""], "saved ä/ö.png")
        overlay.draw_state(image, paused=True, recording=True)
        overlay.draw_help(image)
        assert image.min() < 255


def test_a_snapshot_that_cannot_be_saved_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    sink = Sink(Settings(snapshots=str(tmp_path / "file")))
    assert sink._snapshot() == "nothing to save yet"
    sink._image = np.zeros((4, 4, 3), np.uint8)
    assert sink._snapshot().startswith(f"cannot save {tmp_path}/file/snapshot-")


def test_watermarks_are_taken_without_a_window(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    sink = Sink(Settings())
    sink.open([StreamInfo("camera/frames", (8, 6))])
    sink.process(Packet("camera/frames", 0, 0, 0, 0, None))
    sink.process(Packet("camera/frames", 1, 0, 0, 0, Frame(np.zeros((6, 8), np.uint8), 0), end=True))
    assert sink.flows["frames"].taken == 1
    assert sink.idle() == ()
    sink.close()
    assert sink.flows["frames"].balanced


def test_keys_begin_from_what_the_pipeline_is_made_of():
    sink = Sink(Settings())
    made = {
        "sources": {"camera": {"kind": "replay", "speed": 0.5}},
        "sinks": {"record": {"kind": "record", "dir": "x"}},
    }
    sink.note("pipeline", json.dumps(made))
    sink.note("mark", "here")
    assert sink._press("record", 0) == ("record off",)  # a recorder records from the start
    assert sink._press("faster", 0) == ("speed 1",)
    assert sink._press("", 0) == ()


def test_meter_tells_how_long_ago_it_was_before_the_sensor_where_that_is_known():
    meter, ms = overlay.Meter(span_ns=1_000_000_000), 1_000_000
    for i in range(50):
        now = 1_000_000_000_000 + i * 10 * ms
        meter.shown(now, now - 4 * ms, now - 9 * ms if i % 2 else 0)
    line = meter.line(1_000_000_000_000 + 490 * ms, {})
    assert "latency p50 4.0 ms, p99 4.0 ms   from the sensor p50 9.0 ms, p99 9.0 ms" in line
