"""One line of a benchmark's answer, and the table that a person reads."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from rich.box import SIMPLE_HEAD
from rich.table import Table


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one contender reached on one input.

    ``what`` is the question (``"voxel grid, 5 bins"``), ``contender`` who answered it (``"rtpipe"``, ``"torch"``),
    ``input`` on what (``"cups 346x260"``). ``rate`` is the median in ``unit`` (Mev/s unless said otherwise; where
    ``unit`` is a time, smaller is better). ``ratio_to_best_peer``: how many times better than the best other package
    in the same run, the median over interleaved rounds; None for peers and where no peer is installed. ``note`` says
    what a reader must know (settings, percentile, what is included).
    """

    what: str
    contender: str
    input: str
    rate: float
    ratio_to_best_peer: float | None = None
    unit: str = "Mev/s"
    note: str = ""


def table(rows: Sequence[Row], title: str = "") -> Table:
    """``rows`` as a table for the terminal, in their order, each question (and its input) above its contenders."""
    result = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    result.add_column("")
    result.add_column("", justify="right", no_wrap=True)
    result.add_column("× best peer", justify="right", no_wrap=True)
    result.add_column("", overflow="fold")
    previous: tuple[str, str] | None = None
    for row in rows:
        if (row.what, row.input) != previous:
            if previous is not None:
                result.add_section()
            previous = (row.what, row.input)
            result.add_row(f"[bold]{row.what}[/bold], {row.input}")
        ratio = "" if row.ratio_to_best_peer is None else f"{row.ratio_to_best_peer:.2f}"
        result.add_row(f"  {row.contender}", f"{_figure(row.rate)} {row.unit}", ratio, row.note)
    return result


def _figure(value: float) -> str:
    """Three significant digits, never in powers of ten."""
    magnitude = abs(value)
    if magnitude >= 100:
        return f"{value:.0f}"
    if magnitude >= 10:
        return f"{value:.1f}"
    return f"{value:.3g}" if magnitude >= 0.001 else f"{value:.6f}"
