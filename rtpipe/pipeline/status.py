"""The pipeline's state in one line: event rate, latency, loss, position, what stands still."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

import msgspec

from rtpipe.pipeline import accounts as ledger_of
from rtpipe.pipeline.accounts import Account
from rtpipe.pipeline.progress import STARTING

SAY_S = 3.0
SMOOTH_S = 1.5
QUIET_S = 3.0
"""What is said once while a part makes ready is shown with its age from here on: the line moves, so it is alive."""
LONG = ("chosen",)
"""Facts for the report at the end: too long for a line."""


class StatusLine:
    """Keeps what a rate needs: the last counts and when they were seen."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []
        self._said = ("", 0.0)
        self._starting = ("", 0.0)

    def say(self, text: str) -> None:
        """Show ``text`` for a few seconds (the answer to a key)."""
        self._said = (text, time.monotonic() + SAY_S)

    def rate(self, accounts: Mapping[str, Account]) -> float:
        """Events per second that the drivers have sent of late, over the busiest edge of each."""
        total = 0
        for account in accounts.values():
            if account.plan.role == "driver" and account.last is not None:
                total += max((ledger.offered.events for ledger in account.last.sent), default=0)
        now = time.monotonic()
        self._seen = [(at, n) for at, n in self._seen if now - at < SMOOTH_S and n <= total] + [(now, total)]
        (first, then), (last, count) = self._seen[0], self._seen[-1]
        return (count - then) / (last - first) if last > first else 0.0

    def line(self, accounts: Mapping[str, Account]) -> str:
        """``12.3 s of 60.0 s · 1.25 Mev/s · latency 3.1 / 8.0 ms · sensor to screen 9.0 / 14.1 ms · lost 0``; latencies
        are p50 / p99: from arrival, of the slowest edge into a sink; and from the sensor, where its clock is steady."""
        waiting = [name for name, account in accounts.items() if account.last is None]
        if waiting:
            return f"starting: {', '.join(waiting)}"
        starting = [a.last.facts[STARTING] for a in accounts.values() if a.last and STARTING in a.last.facts]
        if starting:
            return f"starting: {self._aged('; '.join(starting))}"
        rewound = ledger_of.rewound_s(accounts)
        parts = [] if rewound is None else [f"REWIND -{rewound:.1f} s"]
        for account in accounts.values():
            last = account.last
            if account.plan.role == "driver" and last is not None and last.position_s is not None:
                parts.append(f"{last.position_s:.1f} s" + (f" of {last.duration_s:.1f} s" if last.duration_s else ""))
            if account.plan.role == "driver" and last is not None and "gone" in last.facts:
                parts.append(f"{account.plan.name} GONE {last.facts['gone']}")
        parts.append(f"{self.rate(accounts) / 1e6:.2f} Mev/s")
        edges = ledger_of.edges(accounts)
        sinks = [
            e.latency for e in edges if e.latency and e.latency.n and not e.name.endswith(("->engine", "->history"))
        ]
        if sinks:
            worst = max(sinks, key=lambda latency: latency.p99_us)
            parts.append(f"latency {worst.p50_us / 1e3:.1f} / {worst.p99_us / 1e3:.1f} ms")
        sensor = ledger_of.sensor_latency(accounts)
        if sensor is not None:
            parts.append(f"{sensor[0]} {sensor[1].p50_us / 1e3:.1f} / {sensor[1].p99_us / 1e3:.1f} ms")
        lost = sum(t.events or t.packets for e in edges for reason, t in e.dropped.items() if reason != "skipped")
        parts.append(f"lost {lost:,}")
        parts += [
            f"{key} {value}"
            for a in accounts.values()
            if a.last and a.plan.role == "engine"
            for key, value in a.last.facts.items()
            if key not in LONG
        ]
        if time.monotonic() < self._said[1]:
            parts.append(self._said[0])
        return " · ".join(parts)

    def _aged(self, text: str) -> str:
        now = time.monotonic()
        if text != self._starting[0]:
            self._starting = (text, now)
        age = now - self._starting[1]
        return f"{text} (for {age:.0f} s)" if age >= QUIET_S else text

    def json(self, accounts: Mapping[str, Account]) -> str:
        """The same and every worker's last report (null before its first), for programs."""
        workers = {name: msgspec.to_builtins(account.last) for name, account in accounts.items()}
        return json.dumps({"line": self.line(accounts), "workers": workers})
