"""Names from files in messages: short, on one line, whatever they hold."""

from __future__ import annotations

from collections.abc import Collection

LONGEST = 80
NAMED = 3


def shown(text: str) -> str:
    """``text`` quoted, without control characters, cut to a length that a line bears."""
    return ascii(text if len(text) <= LONGEST else f"{text[:LONGEST]}...")


def first_few(names: Collection[str]) -> str:
    """The first three of ``names`` (sorted) and how many more there are."""
    few = ", ".join(
        name if name.isascii() and name.isprintable() and len(name) <= LONGEST else shown(name)
        for name in sorted(names)[:NAMED]
    )
    more = len(names) - NAMED
    return f"{few} and {more} more" if more > 0 else few
