"""Another rtpipe as a camera: the real serve sink and the real driver, real tcp, real keys."""

import threading
import time
from collections import deque
from itertools import pairwise

import numpy as np
import pytest

from drivers.remote import Driver, Settings
from rtpipe.errors import InputError, WorldError
from rtpipe.sinks import serve
from rtpipe.sockets import keys
from rtpipe.types import Events, Frame, Packet, StreamInfo

STREAMS = (
    StreamInfo("camera/events", (64, 48), "DAVIS346 00001"),
    StreamInfo("camera/frames", (64, 48)),
    StreamInfo("engine/output", (64, 48)),
)


@pytest.fixture
def machines(tmp_path, monkeypatch):
    """``machines(name)``: from now on this process is that machine; jetson and laptop know each other."""

    def become(name):
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / name))

    public = {}
    for name in ("jetson", "laptop", "stranger"):
        become(name)
        public[name] = keys.make()[0].public.decode()
    keys.add("jetson", public["jetson"])  # the stranger knows the jetson, which does not know him
    become("laptop")
    keys.add("jetson", public["jetson"])
    become("jetson")
    keys.add("laptop", public["laptop"])
    return become


class Server:
    """A serve sink in a thread that gives it a packet now and then and its idle time, as the worker does."""

    def __init__(self, settings, first_seq=0, t0=0):
        self.sink = serve.Sink(settings)
        deadline = time.monotonic() + 10
        while True:
            try:
                self.sink.open(STREAMS)
                break
            except WorldError:  # ZeroMQ lets the port go in its own time
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        self.seq, self.t = first_seq, t0
        self.todo = deque()
        self.running = True
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        while self.running or self.todo:
            while self.todo:
                self.sink.process(self.todo.popleft())
            self.sink.idle()
            time.sleep(0.002)

    def send(self, n=100, epoch=0, end=False):
        """One packet of each stream; returns its events."""
        t = np.sort(np.random.default_rng(self.seq).integers(self.t, self.t + 1000, n))
        events = Events(t, t % 64, t % 48, t % 2)
        picture = np.full((48, 64), self.seq % 256, np.uint8)
        now, last = time.monotonic_ns(), self.t + 1000
        self.todo += [
            Packet("camera/events", self.seq, self.t, last, now, events, epoch, end),
            Packet("camera/frames", self.seq, last, last, now, Frame(picture, last), epoch, end),
            Packet("engine/output", self.seq, last, last, now, Frame(picture, last, source="edi"), epoch, end),
        ]
        self.seq, self.t = self.seq + 1, last
        return events

    def close(self):
        self.running = False
        self.thread.join()
        self.sink.close()


@pytest.fixture
def server():
    made = []

    def begin(bind="tcp://127.0.0.1:*", **settings):
        made.append(Server(serve.Settings(bind=bind, **settings)))
        endpoint = made[-1].sink._publisher.socket.getsockopt_string(32)  # LAST_ENDPOINT
        return made[-1], endpoint.replace("0.0.0.0", "127.0.0.1")

    yield begin
    for each in made:
        if each.running:
            each.close()


def take(driver, until, seconds=20):
    """Packets until ``until(packets)``."""
    packets, deadline = [], time.monotonic() + seconds
    while not until(packets) and time.monotonic() < deadline:
        made = driver.read(0.01)
        if made is None:
            break
        packets += made
    assert until(packets), f"only {len(packets)} packets came"
    return packets


def of(packets, kind):
    return [packet for packet in packets if packet.stream == f"camera/{kind}" and packet.body is not None]


def columns(packets):
    from rtpipe.packing import unpack

    return Events.concatenate([unpack(packet.body) for packet in of(packets, "events")])


@pytest.mark.parametrize("encrypted", [True, False])
def test_what_the_server_sends_arrives_event_by_event(machines, server, encrypted):
    serving, endpoint = server("tcp://0.0.0.0:*" if encrypted else "tcp://127.0.0.1:*")
    machines("laptop")
    driver = Driver(Settings(connect=endpoint, server="jetson" if encrypted else ""))
    streams = driver.open()
    assert {stream.name for stream in streams} == {"camera/events", "camera/frames", "camera/output"}
    assert streams[0].camera == "DAVIS346 00001"
    time.sleep(0.3)
    sent = Events.concatenate([serving.send(1000) for _ in range(20)])
    serving.send(0, end=True)
    packets = take(driver, lambda taken: sum(packet.end for packet in taken) == 3)
    got = columns(packets)
    for name in ("t", "x", "y", "p"):
        np.testing.assert_array_equal(getattr(got, name), getattr(sent, name))
    assert [frame.body.image[0, 0] for frame in of(packets, "output")] == list(range(21))
    assert of(packets, "output")[0].body.source == "edi"
    for kind in ("events", "frames", "output"):
        mine = [packet for packet in packets if packet.stream == f"camera/{kind}"]
        assert [packet.seq for packet in mine] == list(range(len(mine)))
    assert driver.read(0.01) is None
    assert driver.flows["events"].taken == driver.flows["events"].passed == 20_000
    driver.close()
    driver.close()
    serving.close()
    peer = next(text for key, text in serving.sink.facts.items() if key.startswith("peer"))
    assert peer == "63 of 63 packets taken"


def test_a_stranger_is_refused_and_told_why(machines, server):
    serving, endpoint = server("tcp://0.0.0.0:*")
    machines("stranger")
    driver = Driver(Settings(connect=endpoint, server="jetson", wait_s=3))
    with pytest.raises(WorldError, match="ours is not known there"):
        driver.open()
    driver.close()
    plain = Driver(Settings(connect=endpoint, wait_s=3))
    with pytest.raises(WorldError, match="it encrypts"):
        plain.open()
    plain.close()
    assert serving.sink._publisher.ledgers() == []


def test_a_server_with_another_key_is_not_believed(machines, server, tmp_path):
    _, endpoint = server("tcp://0.0.0.0:*")
    machines("laptop")
    keys.remove("jetson")
    machines("stranger")
    wrong = keys.own().public.decode()
    machines("laptop")
    keys.add("jetson", wrong)
    driver = Driver(Settings(connect=endpoint, server="jetson", wait_s=2))
    with pytest.raises(WorldError):
        driver.open()
    driver.close()


def test_only_the_machines_that_are_named_are_admitted(machines, server):
    keys.add("printer", "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7")
    _, endpoint = server("tcp://0.0.0.0:*", clients=("printer",))
    machines("laptop")
    driver = Driver(Settings(connect=endpoint, server="jetson", wait_s=2))
    with pytest.raises(WorldError, match="ours is not known there"):
        driver.open()
    driver.close()


def test_a_server_that_leaves_the_machine_needs_keys(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    sink = serve.Sink(serve.Settings(bind="tcp://0.0.0.0:*"))
    with pytest.raises(InputError, match="rtpipe keys make"):
        sink.open(STREAMS)
    driver = Driver(Settings(connect="tcp://192.0.2.1:5570"))
    with pytest.raises(InputError, match="needs CURVE keys"):
        driver.open()


def test_nobody_there_is_said():
    driver = Driver(Settings(connect="tcp://127.0.0.1:9", wait_s=0.5))
    with pytest.raises(WorldError, match="nobody answered within"):
        driver.open()
    driver.close()


def test_a_restarted_server_begins_a_new_epoch_behind_what_was_sent(server):
    first, endpoint = server()
    driver = Driver(Settings(connect=endpoint))
    driver.open()
    time.sleep(0.3)
    for _ in range(10):
        first.send()
    before = take(driver, lambda taken: len(of(taken, "events")) == 10)
    first.close()
    second, _ = server(endpoint)
    time.sleep(1.0)
    take(driver, lambda taken: driver._subscriber.ledger() and len(driver._subscriber.ledger().sessions) == 2)
    time.sleep(0.3)
    for _ in range(10):
        second.send()
    after = take(driver, lambda taken: len(of(taken, "events")) == 10)
    assert {packet.epoch for packet in of(before, "events")} == {0}
    assert {packet.epoch for packet in of(after, "events")} == {1}
    times = columns([*of(before, "events"), *of(after, "events")]).t
    assert (np.diff(times) >= 0).all()
    numbers = [packet.seq for packet in (*before, *after) if packet.stream == "camera/events"]
    assert all(b == a + 1 for a, b in pairwise(numbers))
    driver.close()


def test_a_peer_that_does_not_take_loses_what_does_not_fit_and_is_told_by_reason(server):
    serving, endpoint = server(queue_mb=1)
    driver = Driver(Settings(connect=endpoint))
    driver.open()
    time.sleep(0.3)
    for _ in range(200):
        serving.send(40_000)
    while serving.todo:
        time.sleep(0.01)
    serving.send(10, end=True)
    take(driver, lambda taken: driver._subscriber.ended)
    flow = driver.flows["events"]
    assert flow.balanced
    assert flow.taken == 200 * 40_000 + 10
    assert flow.dropped.get("queue_full", 0) > 0
    assert flow.passed == flow.taken - flow.dropped["queue_full"]
    driver.close()


def test_two_sources_of_one_kind_are_refused(server, monkeypatch):
    both = (*STREAMS, StreamInfo("right/events", (64, 48)))
    monkeypatch.setattr(f"{__name__}.STREAMS", both)
    _, endpoint = server()
    driver = Driver(Settings(connect=endpoint))
    with pytest.raises(InputError, match="two streams of events"):
        driver.open()
    driver.close()


def test_events_of_a_stream_that_a_restarted_server_adds_are_counted(server):
    """The driver said at the start what it has; more cannot travel."""
    _, endpoint = server()
    driver = Driver(Settings(connect=endpoint))
    driver.open()
    t = np.arange(5)
    assert driver._take(Packet("new/events", 0, 0, 9, 1, Events(t, t, t, t % 2))) is None
    flow = driver.flows["events"]
    assert (flow.taken, flow.passed, flow.dropped) == (5, 0, {"not_announced": 5})
    driver.close()
