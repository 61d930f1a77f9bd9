"""The whole run's ledger: what each side of each edge counted, whether it balances, and how it reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rich.box import SIMPLE_HEAD
from rich.table import Table

from rtpipe.clocks.relation import Clock
from rtpipe.ledger import ReceivedLedger, SentLedger, Tally, check
from rtpipe.pipeline.messages import MADE, SHOWN, Latency, Report, WorkerPlan


@dataclass
class Account:
    """One worker's reports: the last of each life (a worker that died and was restarted has several)."""

    plan: WorkerPlan
    lives: list[Report] = field(default_factory=list)
    deaths: list[str] = field(default_factory=list)

    @property
    def last(self) -> Report | None:
        """The newest report."""
        return self.lives[-1] if self.lives else None

    @property
    def undisturbed(self) -> bool:
        """It lived once, to its proper end."""
        return len(self.lives) == 1 and not self.deaths and self.lives[0].state == "done"


@dataclass(frozen=True)
class EdgeAccount:
    """Both sides of one edge over all lives of both."""

    name: str
    sent: Sequence[SentLedger]
    received: Sequence[ReceivedLedger]
    latency: Latency | None

    @property
    def offered(self) -> Tally:
        """What the producer wanted to send."""
        return _sum(ledger.offered for ledger in self.sent)

    @property
    def delivered(self) -> Tally:
        """What the consumer has processed and the producer was told of."""
        return _sum(ledger.acknowledged for ledger in self.sent)

    @property
    def dropped(self) -> dict[str, Tally]:
        """What did not get through, by reason, as both sides named it."""
        reasons: dict[str, Tally] = {}
        for ledger in self.sent:
            for reason, tally in ledger.dropped.items():
                reasons.setdefault(reason, Tally()).add(tally.count)
        for received in self.received:
            for reason, tally in received.refused.items():
                reasons.setdefault(f"refused: {reason}", Tally()).add(tally.count)
        return reasons


def _sum(tallies: Iterable[Tally]) -> Tally:
    total = Tally()
    for tally in tallies:
        total.add(tally.count)
    return total


def edges(accounts: Mapping[str, Account]) -> list[EdgeAccount]:
    """Every edge of the plan, in its order."""
    result = []
    for consumer in accounts.values():
        for item in consumer.plan.inputs:
            name = f"{item.producer}->{consumer.plan.name}"
            producer = accounts[item.producer]
            sent = [s for life in producer.lives for s in life.sent if s.edge == name]
            received = [r for life in consumer.lives for r in life.received if r.edge == name]
            latency = consumer.last.latency.get(name) if consumer.last is not None else None
            result.append(EdgeAccount(name, sent, received, latency))
    return result


def rewound_s(accounts: Mapping[str, Account]) -> float | None:
    """How far the pipeline's history is rewound, in seconds; None where it is live or there is none."""
    last = [account.last for account in accounts.values() if account.plan.role == "history"]
    return next((report.rewound_s for report in last if report is not None), None)


def clocks(accounts: Mapping[str, Account]) -> dict[str, Clock]:
    """Every source's clock on this computer's, as last reported; those that are not steady are left out."""
    drivers = {name: account.last for name, account in accounts.items() if account.plan.role == "driver"}
    return {name: last.clock for name, last in drivers.items() if last is not None and last.clock is not None}


def synchronised(accounts: Mapping[str, Account]) -> frozenset[str]:
    """The sources that are set to share a synchronisation cable."""
    return frozenset(name for name, account in accounts.items() if account.plan.settings.get("sync"))


def sensor_latency(accounts: Mapping[str, Account]) -> tuple[str, Latency] | None:
    """From the instant that a picture shows to the screen, else to the picture made; None where nothing is known, and
    of a replay: there is no sensor in it, and its pace gives way to whoever is slow."""
    for name in (SHOWN, MADE):
        for account in (account for account in accounts.values() if account.plan.live):
            latency = account.last.latency.get(name) if account.last is not None else None
            if latency is not None and latency.n:
                return name, latency
    return None


def problems(accounts: Mapping[str, Account]) -> list[str]:
    """What does not balance, one line each, naming the edge or stage. Empty when every loss has a name.

    Where a side died, only what the surviving side counted can be held to account; the death itself is reported by
    :func:`losses`.
    """
    found: list[str] = []
    for edge in edges(accounts):
        producer, consumer = (accounts[name] for name in edge.name.split("->"))
        undisturbed = producer.undisturbed and consumer.undisturbed
        for ledger in edge.received if not undisturbed else ():  # else the check below says it
            if ledger.unexplained.packets:
                found.append(
                    f"edge {edge.name}: {ledger.unexplained.packets} packets are missing and nobody counted them"
                )
        if producer.undisturbed and not edge.sent:
            found.append(f"edge {edge.name}: the producer kept no ledger of it")
        if undisturbed and edge.sent and edge.received:
            wrong = check(edge.sent[0], edge.received[0])
            if wrong is not None:
                found.append(wrong)
        elif producer.undisturbed and edge.sent:
            total = _sum(edge.sent[0].dropped.values())
            total.add(edge.delivered.count)
            if total != edge.offered:
                found.append(
                    f"edge {edge.name}: {edge.offered.packets} packets offered, {total.packets} delivered or dropped"
                )
    for account in accounts.values():
        life = account.last
        for kind, flow in life.flows.items() if life is not None and life.state == "done" else ():
            if not flow.balanced:
                found.append(
                    f"stage {account.plan.name}: {flow.taken} {kind} taken, {flow.passed} passed on, "
                    f"{sum(flow.dropped.values())} dropped"
                )
    return found


def losses(accounts: Mapping[str, Account]) -> list[str]:
    """What was lost and is accounted for, in words: deaths, what a camera's driver could not pass on, and drops other
    than what a display skips or a person asked for."""
    lines = [f"{name} {death}" for name, account in accounts.items() for death in account.deaths]
    for name, account in accounts.items():
        for life in account.lives if account.plan.role == "driver" else ():
            for kind, flow in life.flows.items():
                if not kind.startswith("filter"):
                    asked = ("paused", "not_wanted")
                    lines += [
                        f"{name}: {n:,} {kind} lost: {why}" for why, n in flow.dropped.items() if why not in asked
                    ]
    for edge in edges(accounts):
        for reason, tally in edge.dropped.items():
            if reason != "skipped":
                lines.append(f"edge {edge.name}: {tally.packets} packets ({tally.events:,} events) lost: {reason}")
    return lines


def tables(accounts: Mapping[str, Account]) -> list[Table]:
    """The ledger as a person reads it: every edge, then every stage that took anything."""
    by_edge = _table("edge", "packets", "events", "dropped", "p50 ms", "p99 ms")
    for edge in edges(accounts):
        sent, came, lost = edge.offered, edge.delivered, edge.dropped
        latency = (f"{edge.latency.p50_us / 1e3:.2f}", f"{edge.latency.p99_us / 1e3:.2f}") if edge.latency else ("", "")
        dropped = ", ".join(f"{reason} {tally.packets:,}" for reason, tally in lost.items()) or "0"
        by_edge.add_row(
            edge.name, _change(sent.packets, came.packets), _change(sent.events, came.events), dropped, *latency
        )
    by_stage = _table("stage", "in", "out", "dropped")
    for name, account in accounts.items():
        life = account.last
        for kind, flow in life.flows.items() if life is not None else ():
            if flow.taken:
                dropped = ", ".join(f"{reason} {n:,}" for reason, n in flow.dropped.items()) or "0"
                by_stage.add_row(f"{name}: {kind}", f"{flow.taken:,}", f"{flow.passed:,}", dropped)
    return [by_edge, by_stage] if by_stage.row_count else [by_edge]


def _table(*headings: str) -> Table:
    result = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        left = heading in ("edge", "stage", "dropped")
        result.add_column(heading, justify="left" if left else "right", no_wrap=heading != "dropped")
    return result


def _change(sent: int, came: int) -> str:
    return f"{sent:,}" if sent == came else f"{sent:,} > {came:,}"
