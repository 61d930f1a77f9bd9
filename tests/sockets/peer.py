"""One end of an edge as a process of its own: ``python -m tests.sockets.peer consumer|producer JSON``.

Prints one JSON object a line: that it is up, and at its end what it saw.
"""

import json
import random
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import msgspec
import zmq

from rtpipe.sockets import Publisher, Subscriber
from tests.sockets.pair import EVENTS, is_packet, packet


class Process:
    """A peer that this test started; killed when the test is over."""

    def __init__(self, role, **settings):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.sockets.peer", role, json.dumps(settings)],
            cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def said(self):
        """The next line (waits for it)."""
        line = self.process.stdout.readline()
        assert line, "the other process died"
        return json.loads(line)

    def ledger(self, kind):
        return msgspec.convert(self.said()["ledger"], kind)

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


def say(**facts):
    print(json.dumps(facts), flush=True)


def consume(endpoint, name, *, n=10, delivery="every", credit=1 << 20, seed=None):
    """Take everything until the end, checking each packet; with a seed, pausing at random."""
    subscriber = Subscriber(
        endpoint, consumer=name, producer="camera", kinds=["events"], delivery=delivery, credit_bytes=credit
    )
    poller = zmq.Poller()
    poller.register(subscriber.socket, zmq.POLLIN)
    while subscriber.streams is None:
        poller.poll(10)
        subscriber.serve()
    subscriber.say_ready()
    say(up=True)
    pauses = random.Random(seed)
    whole, seqs = True, []
    while not subscriber.ended:
        received = subscriber.receive()
        if received is None:
            poller.poll(10)
            subscriber.serve()
            continue
        if not received.end:
            whole &= is_packet(received, received.seq, n)
        seqs.append(received.seq)
        if seed is not None and pauses.random() < 0.002:
            time.sleep(pauses.random() * 0.02)
        subscriber.processed(received)
    subscriber.close()
    ordered = all(a < b for a, b in pairwise(seqs))
    say(whole=whole, ordered=ordered, first=seqs[0], last=seqs[-1], count=len(seqs))
    say(ledger=msgspec.to_builtins(subscriber.ledger()))


def produce(endpoint, expected, *, count, n=10, live=False, pause=0.0):
    """A replay of ``count`` packets (or a live source), going on where its consumers are."""
    publisher = Publisher(endpoint, "camera", live=live, expected=expected, queue_bytes=1 << 20)
    publisher.announce([EVENTS])
    poller = zmq.Poller()
    poller.register(publisher.socket, zmq.POLLIN)

    def serve(milliseconds):
        poller.poll(milliseconds)
        publisher.serve()

    while not publisher.ready:
        serve(10)
    start = publisher.resume["camera/events"] + 1
    say(start=start)
    for seq in range(start, count):
        while not live and not publisher.room:
            serve(10)
        publisher.publish(packet(seq, n))
        if seq % 16 == 0:
            publisher.serve()
        if pause:
            time.sleep(pause)
    publisher.publish(packet(count, 0, end=True))
    while not publisher.drained:
        serve(10)
    publisher.close()
    say(ledger=msgspec.to_builtins(publisher.ledgers()[0]))


if __name__ == "__main__":
    {"consumer": consume, "producer": produce}[sys.argv[1]](**json.loads(sys.argv[2]))
