"""dv's network streams, against a real dv-processing ``NetworkWriter`` in a process of its own: everything arrives,
what is not there is said, and a server that comes back is taken up."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from drivers.backends import dv_network
from drivers.dv_network import Driver, Settings
from rtpipe.errors import InputError, RtpipeError, WorldError
from rtpipe.formats import open_recording
from rtpipe.packing import unpack
from rtpipe.types import Events, Frame, Imu, PackedEvents, Packet, Trigger
from tests.pipeline.command_line import Running

pytest.importorskip("dv_processing")

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("events", "frames", "imu", "triggers")


def free_ports(n: int) -> list[int]:
    lines = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [line.getsockname()[1] for line in lines]
    for line in lines:
        line.close()
    return ports


class Server:
    """The process, and where its streams are."""

    def __init__(self, folder: Path, recording: Path, places: dict[str, int | str]) -> None:
        self.folder, self.places = folder, places
        words = [f"{kind}={where}" for kind, where in places.items()]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.drivers.dv_server", str(folder), str(recording), *words],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.says() == "up"

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go(self) -> None:
        (self.folder / "go").touch()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def recording(shared: Callable[[str], Path]) -> Path:
    return shared("recordings/aedat4/davis346_ball_throw.aedat4")


@pytest.fixture
def serve(tmp_path: Path, recording: Path) -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def start(places: dict[str, int | str] | None = None, kinds: tuple[str, ...] = KINDS) -> Server:
        (tmp_path / "go").unlink(missing_ok=True)
        made.append(Server(tmp_path, recording, places or dict(zip(kinds, free_ports(len(kinds)), strict=True))))
        return made[-1]

    yield start
    for each in made:
        each.kill()


@pytest.fixture
def drive() -> Iterator[Callable[..., Driver]]:
    made: list[Driver] = []

    def start(places: dict[str, int | str], **settings: Any) -> Driver:
        made.append(Driver(msgspec.convert({"streams": places, **settings}, Settings)))
        made[-1].open()
        made[-1].read(0)
        return made[-1]

    yield start
    for each in made:
        each.close()


def gathered(driver: Driver, events: int, most_s: float = 60.0) -> list[Packet]:
    """Packets until so many events have come and half a second more."""
    packets: list[Packet] = []
    deadline = time.monotonic() + most_s
    while sum(packet.n_events for packet in packets) < events:
        assert time.monotonic() < deadline, f"{sum(packet.n_events for packet in packets)} of {events} events came"
        packets += driver.read(0.05) or ()
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        packets += driver.read(0.05) or ()
    return packets


def of(packets: list[Packet], kind: type) -> list[Any]:
    return [packet.body for packet in packets if isinstance(packet.body, kind)]


def events_of(packets: list[Packet]) -> Events:
    bodies = [packet.body for packet in packets if isinstance(packet.body, Events | PackedEvents)]
    return Events.concatenate(unpack(body) if isinstance(body, PackedEvents) else body for body in bodies)


def assert_all(packets: list[Packet], recording: Path, offset: int = 0) -> None:
    with open_recording(recording) as file:
        wanted, frames = file.events(), list(file.frames())
        imu, triggers = sum(len(run) for run in file.imu()), sum(len(run) for run in file.triggers())
    found = events_of(packets)
    for name in ("x", "y", "p"):
        assert np.array_equal(getattr(found, name), getattr(wanted, name)), name
    assert np.array_equal(found.t, wanted.t + offset)
    assert [f.image.tobytes() for f in of(packets, Frame)] == [f.image.tobytes() for f in frames]
    assert [f.exposure_start for f in of(packets, Frame)] == [f.exposure_start + offset for f in frames]  # type: ignore[operator]
    assert sum(len(body) for body in of(packets, Imu)) == imu
    assert sum(len(body) for body in of(packets, Trigger)) == triggers


def test_all_four_streams_arrive_whole(
    serve: Callable[..., Server], drive: Callable[..., Driver], recording: Path
) -> None:
    server = serve()
    driver = drive(server.places)
    server.go()
    packets = gathered(driver, 237_073)
    assert_all(packets, recording)
    assert driver.facts["camera"] == "DAVIS346 00000133"
    assert not any(flow.dropped for flow in driver.flows.values())


def test_a_unix_socket_serves_as_well(
    serve: Callable[..., Server], drive: Callable[..., Driver], tmp_path: Path
) -> None:
    server = serve({"events": str(tmp_path / "events.sock")})
    driver = drive(server.places)
    server.go()
    assert len(events_of(gathered(driver, 237_073))) == 237_073


def test_a_server_that_comes_back_is_taken_up_in_a_new_epoch(
    serve: Callable[..., Server], drive: Callable[..., Driver], recording: Path
) -> None:
    server = serve()
    driver = drive(server.places)
    server.go()
    first = gathered(driver, 237_073)
    server.kill()
    deadline = time.monotonic() + 30
    while "gone" not in driver.facts:
        assert time.monotonic() < deadline
        first += driver.read(0.05) or ()
    server = serve(server.places)
    while "gone" in driver.facts:
        assert time.monotonic() < deadline
        first += driver.read(0.05) or ()
    server.go()
    second = gathered(driver, 237_073)
    assert_all(first, recording)
    epochs = {packet.epoch for packet in second if packet.body is not None}
    assert epochs == {1}
    offset = int(events_of(second).t[0] - events_of(first).t[0])
    assert offset > 0, "the same recording again, later"
    assert_all(second, recording, offset)
    assert driver.facts["came back"].startswith("once")


@pytest.mark.slow
def test_a_run_records_what_the_server_sends_and_waits_for_it_when_it_is_away(
    serve: Callable[..., Server], recording: Path, tmp_path: Path
) -> None:
    server = serve()
    streams = ", ".join(f"{kind}: {where}" for kind, where in server.places.items())
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text(
        f"sources:\n  camera: {{driver: dv_network, streams: {{{streams}}}}}\n"
        f"sinks:\n  - {{sink: record, dir: {tmp_path}, name: run}}\n"
    )
    (tmp_path / "r").mkdir()
    running = Running(tmp_path / "r", pipeline)

    def recorded(n: int) -> None:
        running.workers(lambda w: sum(r["processed"]["events"] for r in w["record"]["received"]) >= n)

    try:
        running.workers(lambda w: w["camera"]["state"] == "running")
        server.go()
        recorded(237_073)
        server.kill()
        server = serve(server.places)
        time.sleep(2.0)
        server.go()
        recorded(2 * 237_073)
        running.process.send_signal(signal.SIGINT)
        code, result, err = running.end()
    finally:
        running.kill()
    assert code == 0, (err, result)
    assert result["stages"]["camera"]["events"] == {"taken": 2 * 237_073, "passed": 2 * 237_073, "dropped": {}}
    with open_recording(recording) as file, open_recording(tmp_path / "run.mcap") as run:
        wanted, found = file.events(), run.events()
        for name in ("x", "y", "p"):
            column = getattr(wanted, name)
            assert np.array_equal(getattr(found, name), np.concatenate([column, column])), name
        assert (np.diff(found.t) >= 0).all()
        assert len(list(run.frames())) == 2 * len(list(file.frames()))


def test_nobody_there_is_said_at_once(drive: Callable[..., Driver]) -> None:
    (port,) = free_ports(1)
    with pytest.raises(WorldError) as caught:
        drive({"events": port})
    assert str(caught.value) == f"events: 127.0.0.1:{port}: Connection refused (wait: true waits for it)"


def test_a_server_that_says_nothing_does_not_hold_this_process_up(
    drive: Callable[..., Driver], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK would wait for its first words with Python's lock in its hands."""
    monkeypatch.setattr(dv_network, "PATIENCE_S", 0.5)
    ticks: list[float] = []
    done = threading.Event()

    def tick() -> None:
        while not done.is_set():
            ticks.append(time.monotonic())
            time.sleep(0.005)

    thread = threading.Thread(target=tick)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        thread.start()
        began = time.monotonic()
        with pytest.raises(WorldError, match=r"does not answer within 0\.5 s"):
            drive({"events": mute.getsockname()[1]})
        ended = time.monotonic()
        done.set()
        thread.join()
    assert sum(began < tick < ended for tick in ticks) > 5


def test_what_is_no_dv_stream_is_said(drive: Callable[..., Driver]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer() -> None:
            line, _ = other.accept()
            with line:
                line.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(WorldError, match="is no dv stream"):
            drive({"events": other.getsockname()[1]})
        thread.join()


def test_streams_of_the_wrong_kind_or_camera_are_refused(
    serve: Callable[..., Server], drive: Callable[..., Driver]
) -> None:
    server = serve()
    with pytest.raises(InputError, match="sends frames, not events"):
        drive({"events": server.places["frames"]})
    with pytest.raises(RtpipeError, match="serial 999 is wanted"):
        drive({"events": server.places["events"]}, serial="999")


def test_settings_that_need_the_cameras_hardware_are_refused_and_others_done_here(
    serve: Callable[..., Server], drive: Callable[..., Driver]
) -> None:
    server = serve(kinds=("events",))
    with pytest.raises(InputError, match=r"biases\.diff_on: this camera cannot do it"):
        drive(server.places, biases={"diff_on": 3})
    driver = drive(server.places, roi={"x": 100, "y": 50, "width": 60, "height": 40})
    assert "(host)" in driver.facts["settings"]
    server.go()
    deadline = time.monotonic() + 30
    packets: list[Packet] = []
    while driver.flows["events"].passed < 237_073:
        assert time.monotonic() < deadline
        packets += driver.read(0.05) or ()
    found = events_of(packets)
    assert len(found) > 100
    assert 100 <= found.x.min() <= found.x.max() < 160
    assert 50 <= found.y.min() <= found.y.max() < 90


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"streams": {"imu": 7779}}, "events or frames"),
        ({"streams": {"events": 70000}}, "65535"),
        ({"streams": {"pictures": 7779}}, "pictures"),
        ({"streams": {"events": 7777}, "key": "x.pem"}, "both or none"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=said):
        msgspec.convert(settings, Settings)


def test_a_certificate_that_is_no_file_is_said() -> None:
    with pytest.raises(InputError, match="there is no such file"):
        Driver(Settings(streams={"events": 7777}, certificate="nowhere.pem", key="nowhere.pem"))


def test_tls_with_a_certificate_on_both_sides(
    serve: Callable[..., Server], drive: Callable[..., Driver], tmp_path: Path
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl program to make certificates")
    for name in ("server", "client"):
        made = tmp_path / f"{name}.key", tmp_path / f"{name}.crt"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
             "-keyout", str(made[0]), "-out", str(made[1])], check=True, capture_output=True,
        )  # fmt: skip
    (tmp_path / "server.pem").write_bytes(
        (tmp_path / "server.key").read_bytes() + (tmp_path / "server.crt").read_bytes()
    )
    shutil.copy(tmp_path / "client.crt", tmp_path / "ca.pem")
    server = serve(kinds=("events",))
    with pytest.raises(RtpipeError):
        drive(server.places)
    driver = drive(server.places, certificate=str(tmp_path / "client.crt"), key=str(tmp_path / "client.key"))
    server.go()
    assert len(events_of(gathered(driver, 237_073))) == 237_073
