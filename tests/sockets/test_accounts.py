"""The bookkeeping of an edge without sockets: queue, gaps and the comparison of both sides, against plain counting."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rtpipe import wire
from rtpipe.ledger import ReceivedLedger, SentLedger, Tally, check
from rtpipe.sockets.buffers import Buffers
from rtpipe.sockets.continuity import Continuity
from rtpipe.sockets.messages import Offer
from rtpipe.sockets.queue import EdgeQueue, Parcel
from rtpipe.types import Count, Counters, Packet
from tests.sockets.pair import packet


class Bookkeeping(RuleBasedStateMachine):
    """Packets offered, sent, lost on the way, acknowledged, given up: whatever happens, in what order ever, the
    producer's account balances, and the consumer's names just what it did not get."""

    @initialize(latest=st.booleans(), credit=st.integers(1, 6000))
    def begin(self, latest, credit):
        self.queue = EdgeQueue("a->b", 1 << 20)
        self.queue.latest, self.queue.credit = latest, credit
        self.received = ReceivedLedger("a->b")
        self.continuity = Continuity(self.received)
        self.continuity.welcome(Offer("camera/events", None, "", 0, (0, 0), {}), False, False)
        self.queue.begin("session")
        self.seq = 0
        self.link = []
        self.swallowed = Count()
        self.buffers = Buffers()

    @rule(n=st.integers(0, 30))
    def offer(self, n):
        made = packet(self.seq, n)
        self.queue.put(made, Parcel(wire.prepare(made, self.buffers.take), self.buffers.give_back))
        self.seq += 1

    @rule(n=st.integers(0, 30), reason=st.sampled_from(["queue_full", "consumer_absent"]))
    def drop(self, n, reason):
        self.queue.refuse("camera/events", Count(1, n), reason)
        self.seq += 1

    @rule(swallow=st.booleans())
    def send(self, swallow):
        item = self.queue.next()
        if item is None:
            return
        swallow = swallow and not self.queue.latest  # which waits for ever for what ZeroMQ loses
        self.queue.address(item)
        parts = [item.parcel.prepared.topic, item.header]
        if item.parcel.prepared.payload is not None:
            parts.append(bytes(item.parcel.prepared.payload))
        self.queue.sent(item)
        self.link.append((item.number, None if swallow else wire.decode(parts, (346, 260))))
        if swallow:
            self.swallowed += item.count

    @rule(k=st.integers(1, 5))
    def deliver(self, k):
        for _ in range(min(k, len(self.link))):
            number, arrived = self.link.pop(0)
            if arrived is not None:
                assert not self.continuity.duplicate(arrived)
                self.continuity.arrived(arrived)
                assert self.queue.acknowledge(number)

    @rule(keep=st.booleans())
    def die(self, keep):
        self.queue.lose("consumer_died", keep_waiting=keep)
        # another consumer takes its place, and is told where it starts
        self.link.clear()
        self.swallowed = Count()
        self.received = ReceivedLedger("a->b")
        self.continuity = Continuity(self.received)
        start, counters = self.queue.start("camera/events", self.seq)
        dropped = {reason: (n.packets, n.events) for reason, n in counters.dropped.items()}
        sent = (counters.sent.packets, counters.sent.events)
        self.continuity.welcome(Offer("camera/events", None, "", start, sent, dropped), False, False)

    @rule()
    def reconnect(self):
        if not self.swallowed.packets:
            got = self.link[0][0] - 1 if self.link else self.queue.last_number
            self.link.clear()
            self.queue.send_again(got)

    @invariant()
    def everything_is_somewhere(self):
        if not hasattr(self, "queue"):
            return
        ledger = self.queue.ledger
        held = sum((item.count for item in (*self.queue.waiting, *self.queue.under_way)), Count())
        out = sum((tally.count for tally in ledger.dropped.values()), ledger.acknowledged.count)
        assert ledger.offered.count == out + held
        assert ledger.offered.packets == self.seq
        assert self.queue.bytes_waiting == sum(item.size for item in self.queue.waiting)
        assert self.queue.bytes_under_way == sum(item.size for item in self.queue.under_way)
        assert self.queue.latest or len(self.queue.under_way) < 2 or self.queue.bytes_under_way <= self.queue.credit
        session = ledger.sessions["session"]
        assert session.passed.count == ledger.sent.count

    def teardown(self):
        """Send and deliver everything that is left: the consumer then knows the whole truth."""
        if not hasattr(self, "queue"):
            return
        last = packet(self.seq, 1)
        self.queue.credit = 1 << 30
        self.queue.put(last, Parcel(wire.prepare(last, self.buffers.take), self.buffers.give_back))
        for _ in range(len(self.queue.waiting) + 1):
            self.send(False)
            self.deliver(100)
        assert self.received.unexplained.count == self.swallowed


Bookkeeping.TestCase.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
TestBookkeeping = Bookkeeping.TestCase


@given(st.lists(st.sampled_from(["sent", "lost", "queue_full", "skipped"]), max_size=60))
@settings(max_examples=100, deadline=None)
def test_every_gap_is_explained_by_the_reason_that_made_it(fates):
    received = ReceivedLedger("a->b")
    continuity = Continuity(received)
    continuity.welcome(Offer("camera/events", None, "", 0, (0, 0), {}), False, True)
    queue = EdgeQueue("a->b", 1 << 30)
    queue.credit = 1 << 30
    for seq, fate in enumerate([*fates, "sent"]):
        made = packet(seq, seq % 7)
        if fate not in ("sent", "lost"):
            queue.refuse("camera/events", made.count, fate)
            continue
        queue.put(made, Parcel(wire.prepare(made), lambda _: None))
        item = queue.next()
        queue.address(item)
        queue.sent(item)
        if fate == "sent":
            parts = [item.parcel.prepared.topic, item.header]
            if item.parcel.prepared.payload is not None:
                parts.append(bytes(item.parcel.prepared.payload))
            continuity.arrived(wire.decode(parts, (346, 260)))

    def told(fate):
        return sum((Count(1, seq % 7) for seq, one in enumerate(fates) if one == fate), Count())

    assert {reason: tally.count for reason, tally in received.missed.items()} == {
        reason: told(reason) for reason in ("queue_full", "skipped") if told(reason).packets
    }
    assert received.unexplained.count == told("lost")


def test_numbers_that_the_producer_itself_left_out_are_unexplained():
    received = ReceivedLedger("a->b")
    continuity = Continuity(received)
    continuity.welcome(Offer("camera/events", None, "", 0, (0, 0), {}), False, True)
    for seq, counters in (
        (0, Counters(Count(1, 0))),
        (4, Counters(Count(2, 0), {"queue_full": Count(1, 7)})),
        (5, Counters(Count(3, 0), {"queue_full": Count(1, 7)})),
    ):
        continuity.arrived(Packet("camera/events", seq, 0, 0, 0, counters=counters))
    assert received.missed == {"queue_full": Tally(1, 7)}
    assert received.unexplained == Tally(2, 0)


def ledgers():
    """Two sides of an edge that balance: 10 sent, of them 1 duplicate; 2 more dropped."""
    sent = SentLedger("a->b", Tally(12, 120), Tally(10, 100), Tally(10, 100), {"queue_full": Tally(2, 20)})
    received = ReceivedLedger("a->b", Tally(10, 100), Tally(9, 90), {"duplicate": Tally(1, 10)})
    queue = EdgeQueue("a->b", 1)
    queue.begin("s")
    for ledger in (sent, received):
        ledger.sessions = copy.deepcopy(queue.ledger.sessions)
        ledger.sessions["s"].passed = Tally(10, 100)
        ledger.sessions["s"].acknowledged = Tally(10, 100)
    return sent, received


def test_sides_that_agree_balance():
    assert check(*ledgers()) is None


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda s, r: s.offered.add(Count(1, 0)), "13 packets (120 events) offered"),
        (lambda s, r: s.offered.add(Count(0, 1)), "121 events"),
        (lambda s, r: s.drop("skipped", Count(1, 5)), "13 packets (125 events) acknowledged or dropped"),
        (lambda s, r: r.received.add(Count(1, 0)), "11 packets (100 events) received"),
        (lambda s, r: r.processed.add(Count(0, 1)), "101 events"),
        (lambda s, r: r.unexplained.add(Count(1, 9)), "1 packets (9 events) missing"),
        (lambda s, r: s.sessions["s"].passed.add(Count(1, 1)), "11 packets (101 events) sent, 10"),
        (lambda s, r: r.sessions["s"].passed.add(Count(0, 1)), "no reason given"),
        (lambda s, r: r.sessions["s"].acknowledged.add(Count(1, 1)), "no reason given"),
        (lambda s, r: r.sessions.update(t=r.sessions.pop("s")), "not of the same run"),
    ],
)
def test_what_does_not_balance_is_said_with_the_edges_name(spoil, says):
    sent, received = ledgers()
    spoil(sent, received)
    line = check(sent, received)
    assert line.startswith("edge a->b: ")
    assert says in line
    assert "\n" not in line


def test_buffers_are_used_again_and_never_twice_at_once():
    buffers = Buffers()
    one, two = buffers.take(10_000), buffers.take(9_000)
    assert one.base is not two.base
    assert (len(one), len(two)) == (10_000, 9_000)
    buffers.give_back(one)
    assert buffers.take(12_000).base is one.base
    assert buffers.take(12_000).base is not one.base
    assert len(buffers.take(0)) == 0


def test_a_payload_that_several_edges_share_is_given_back_once_by_the_last():
    given_back = []
    made = packet(0)
    parcel = Parcel(wire.prepare(made), given_back.append)
    queues = [EdgeQueue(f"a->{name}", 1 << 20) for name in "bc"]
    for queue in queues:
        queue.credit = 1 << 20
        queue.put(made, parcel)
        item = queue.next()
        queue.address(item)
        queue.sent(item)
    queues[0].acknowledge(1)
    assert given_back == []
    queues[1].acknowledge(1)
    assert len(given_back) == 1


def test_a_payload_that_zeromq_may_still_be_reading_is_never_used_again():
    given_back = []
    made = packet(0)
    queue = EdgeQueue("a->b", 1 << 20)
    queue.put(made, Parcel(wire.prepare(made), given_back.append))
    item = queue.next()
    queue.address(item)
    queue.sent(item)
    queue.lose("consumer_died")
    assert given_back == []


def test_a_watermark_costs_its_overhead():
    queue = EdgeQueue("a->b", 1000)
    for seq in range(2):
        made = Packet("camera/events", seq, 0, 0, 0)
        queue.put(made, Parcel(wire.prepare(made), lambda _: None))
    assert queue.full
