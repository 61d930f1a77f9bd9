"""One line of a benchmark's answer, and the table that a person reads."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
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
    """``rows`` as a table for the terminal, in their order, a rule between one question (and input) and the next."""
    result = Table(title=title or None, title_justify="left")
    with_notes = any(row.note for row in rows)
    for heading in ("what", "input", "contender"):
        result.add_column(heading)
    for heading in ("rate", "unit", "× best peer"):
        result.add_column(heading, justify="left" if heading == "unit" else "right")
    if with_notes:
        result.add_column("note")
    previous: tuple[str, str] | None = None
    for position, row in enumerate(rows):
        question = (row.what, row.input)
        following = rows[position + 1] if position + 1 < len(rows) else None
        ratio = "" if row.ratio_to_best_peer is None else f"{row.ratio_to_best_peer:.2f}"
        shown = ("", "") if question == previous else question
        result.add_row(
            *shown,
            row.contender,
            _figure(row.rate),
            row.unit,
            ratio,
            *([row.note] if with_notes else []),
            end_section=following is not None and (following.what, following.input) != question,
        )
        previous = question
    return result


def _figure(value: float) -> str:
    """Three significant digits, never in powers of ten."""
    magnitude = abs(value)
    if magnitude >= 100:
        return f"{value:.0f}"
    if magnitude >= 10:
        return f"{value:.1f}"
    return f"{value:.3g}" if magnitude >= 0.001 else f"{value:.6f}"
