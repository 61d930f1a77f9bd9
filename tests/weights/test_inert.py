"""Hostile pickled data has no effect, takes no time, and damaged checkpoints are read or refused, never worse."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rtpipe.errors import FormatError
from rtpipe.weights import inert
from tests.weights import hostile

ROOT = Path(__file__).resolve().parents[2]
REAL = ("FireNet.pth", "FireNetplus.pth", "nernet_letc.pth")


def in_a_process(*arguments: str, limit_s: float = 200) -> dict[str, int]:
    """What :mod:`tests.weights.read_damaged` says; it dies of whatever has an effect, hangs or crashes."""
    command = [sys.executable, "-m", "tests.weights.read_damaged", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit_s)
    assert done.returncode == 0, done.stderr[-2000:]
    outcome: dict[str, int] = json.loads(done.stdout)
    return outcome


def test_hostile_and_endless_data_has_no_effect_here(tmp_path: Path) -> None:
    assert in_a_process("hostile", str(tmp_path))["read"] == 0
    assert list(tmp_path.iterdir()) == []


def test_the_same_data_does_have_an_effect_where_it_is_unpickled(tmp_path: Path) -> None:
    """Else the test above would prove nothing."""
    command = [sys.executable, hostile.__file__, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == list(hostile.touches(tmp_path))


@pytest.mark.parametrize("name", REAL)
def test_damaged_checkpoints_are_read_or_refused(name: str, shared: Callable[[str], Path]) -> None:
    outcome = in_a_process(str(shared(f"weights/{name}")), "fast", "0", "100")
    assert sum(outcome.values()) == 100
    assert outcome["refused"] > 20


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_many_damaged_checkpoints_are_read_or_refused(name: str, shared: Callable[[str], Path]) -> None:
    outcome = in_a_process(str(shared(f"weights/{name}")), "slow", "0", "2000")
    assert sum(outcome.values()) == 2000


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("memo far away", "remembers under a number"),
        ("memo by line", "remembers under a number"),
        ("never remembered", "never remembered"),
        ("long text", "ends too early"),
        ("negative text", "ends too early"),
        ("long number", "a number longer"),
        ("number of many digits", "a number longer"),
        ("many steps", "more than 2000000 steps"),
        ("takes too much", "takes more than it put down"),
        ("sets a number", "no dictionary"),
        ("storage of no kind", "byte 28 of 30: numbers of a kind"),
    ],
)
def test_what_no_checkpoint_does_is_refused_in_words(kind: str, said: str) -> None:
    with pytest.raises(FormatError, match=said):
        inert.read(hostile.endless()[kind])


def test_classes_and_calls_become_records() -> None:
    data = b"\x80\x02cparse_config\nConfigParser\n)\x81}" + hostile.text("_config") + b"}" + hostile.text("bins")
    record, end = inert.read(data + b"K\5ssb" + b".rest", 0)
    assert end == len(data) + 6
    assert isinstance(record, inert.Record)
    assert (record.of.module, record.of.name) == ("parse_config", "ConfigParser")
    assert [key for key, _ in record.state.entries()] == ["_config"]
    ((_, settings),) = record.state.entries()
    assert list(settings.entries()) == [("bins", 5)]


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"I-7\n.", -7),
        (b"I01\n.", True),
        (b"L123L\n.", 123),
        (b"F0.5\n.", 0.5),
        (b"S'a\\n'\n.", "a\n"),
        (b"V\\u00e9\n.", "é"),
        (b"G?\xe0\0\0\0\0\0\0.", 0.5),
        (b"J\xff\xff\xff\xff.", -1),
        (b"M\1\2.", 513),
        (b"\x8a\2\0\xff.", -256),
        (b"\x8c\3abc.", "abc"),
        (b"\x80\4\x95\4\0\0\0\0\0\0\0\x8c\1a\x94.", "a"),
        (b"(K\1K\2t.", (1, 2)),
        (b"(K\1(K\2l.", [2]),
        (b"K\1K\2K\3\x87.", (1, 2, 3)),
        (b"](K\1K\2eK\3a.", [1, 2, 3]),
        (b"K\1q\0" + b"0h\0h\0\x86.", (1, 1)),
        (b"K\1(K\2K\3" + b"1.", 1),
        (b"NK\1" + b"0.", None),
        (b"B\2\0\0\0ab.", b"ab"),
    ],
)
def test_plain_values_are_what_python_makes_of_them(data: bytes, value: object) -> None:
    """The values are those of the format's definition, written down by hand."""
    assert inert.read(data) == (value, len(data))
