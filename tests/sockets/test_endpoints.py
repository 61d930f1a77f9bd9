"""Endpoints and keys: refused in plain words, or working."""

import time

import pytest
import zmq

from rtpipe.errors import InputError, WorldError
from rtpipe.sockets import CurveClient, CurveServer, Publisher, Subscriber
from tests.sockets.pair import EVENTS, packet


@pytest.mark.parametrize(
    ("endpoint", "says"),
    [
        ("ipc:///tmp/" + "a" * 103, "108 bytes"),
        ("ipc:///tmp/" + "é" * 60, "at most 107"),
        ("ipc://", "a path"),
        ("tcp://0.0.0.0:5555", "CURVE"),
        ("tcp://*:5555", "CURVE"),
        ("tcp://192.168.1.4:5555", "CURVE"),
        ("tcp://camera.example:5555", "CURVE"),
        ("tcp://127.0.0.1", "HOST:PORT"),
        ("tcp://127.0.0.1:99999", "HOST:PORT"),
        ("udp://127.0.0.1:5555", "ipc://PATH or tcp://HOST:PORT"),
        ("nonsense", "ipc://PATH or tcp://HOST:PORT"),
    ],
)
def test_an_endpoint_that_cannot_be_used_is_refused_by_both_sides(endpoint, says):
    with pytest.raises(InputError, match=says):
        Publisher(endpoint, "camera", live=True)
    with pytest.raises(InputError, match=says):
        Subscriber(endpoint, consumer="engine", producer="camera", kinds=["events"])


def test_an_unknown_delivery_is_refused(tmp_path):
    with pytest.raises(InputError, match="every or latest"):
        Subscriber(f"ipc://{tmp_path}/x", consumer="engine", producer="camera", kinds=["events"], delivery="some")


def test_a_place_where_nobody_can_listen_is_named(tmp_path):
    with pytest.raises(WorldError, match=r"missing/edge"):
        Publisher(f"ipc://{tmp_path}/missing/edge", "camera", live=True)
    first = Publisher("tcp://127.0.0.1:*", "camera", live=True)
    taken = first.socket.getsockopt(zmq.LAST_ENDPOINT).decode().rstrip("\0")
    with pytest.raises(WorldError, match="in use"):
        Publisher(taken, "camera", live=True)
    first.close()


def flow(publisher, subscriber, seconds):
    """Whether a packet gets from one to the other."""
    publisher.announce([EVENTS])
    deadline = time.monotonic() + seconds
    said = False
    while time.monotonic() < deadline:
        publisher.serve()
        if publisher.ready and not publisher.ledgers()[0].offered.packets:
            publisher.publish(packet(0))
        if not said and subscriber.streams is not None:
            subscriber.say_ready()
            said = True
        received = subscriber.receive()
        if received is not None:
            return True
        time.sleep(0.001)
    return False


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_loopback_needs_no_keys(host):
    try:
        publisher = Publisher(f"tcp://{host}:*", "camera", live=True, expected=["engine"])
    except WorldError:
        pytest.skip(f"no {host} on this machine")
    endpoint = publisher.socket.getsockopt(zmq.LAST_ENDPOINT).decode().rstrip("\0")
    subscriber = Subscriber(endpoint, consumer="engine", producer="camera", kinds=["events"])
    assert flow(publisher, subscriber, 20)
    subscriber.close()
    publisher.close()


def test_with_curve_listed_keys_get_through_and_no_others():
    (server, secret), (mine, my_secret), (theirs, their_secret) = (zmq.curve_keypair() for _ in range(3))
    keys = CurveServer(server, secret, [mine])
    for public, private, welcome in ((mine, my_secret, True), (theirs, their_secret, False)):
        publisher = Publisher("tcp://0.0.0.0:*", "camera", live=True, expected=["engine"], curve=keys)
        port = publisher.socket.getsockopt(zmq.LAST_ENDPOINT).decode().rstrip("\0").rpartition(":")[2]
        subscriber = Subscriber(
            f"tcp://127.0.0.1:{port}", consumer="engine", producer="camera", kinds=["events"],
            curve=CurveClient(public, private, server),
        )  # fmt: skip
        assert flow(publisher, subscriber, 20 if welcome else 0.5) is welcome
        subscriber.close()
        publisher.close()


def test_curve_that_would_admit_nobody_is_refused():
    server, secret = zmq.curve_keypair()
    with pytest.raises(InputError, match="nobody could connect"):
        Publisher("tcp://127.0.0.1:*", "camera", live=True, curve=CurveServer(server, secret, []))
