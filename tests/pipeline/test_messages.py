"""The control line: commands in one spelling, messages that survive, garbage that is refused by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtpipe.errors import InputError, WireError
from rtpipe.ledger import SentLedger, Tally
from rtpipe.pipeline.messages import Do, Report, Request, check_command, encode, from_worker, to_worker


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (" PAUSE ", "pause"),
        ("seek  1.5", "seek 1.5"),
        ("seek -1", "seek -1"),
        ("seek +0.5", "seek +0.5"),
        ("speed 0", "speed 0"),
        ("record on", "record on"),
        ("Rewind  2.5", "rewind 2.5"),
        ("live", "live"),
        ("save 10", "save 10"),
        ("mark the red car", "mark the red car"),
    ],
)
def test_a_command_has_one_spelling(typed, meant):
    assert check_command(typed) == meant


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "jump",
        "seek",
        "seek x",
        "seek nan",
        "speed -1",
        "speed inf",
        "record",
        "stop it",
        "rewind",
        "rewind 0",
        "rewind -1",
        "save",
        "live 3",
    ],
)
def test_a_command_that_does_not_exist_is_answered_with_those_that_do(typed):
    with pytest.raises(InputError):
        check_command(typed)


def test_messages_survive_the_line():
    report = Report("camera", "running", sent=[SentLedger("camera->engine", offered=Tally(3, 400))])
    assert from_worker(encode(report)) == report
    assert from_worker(encode(Request(7, "pause"))) == Request(7, "pause")
    assert to_worker(encode(Do(1, "seek 2"))) == Do(1, "seek 2")


@given(st.binary(max_size=300))
def test_garbage_is_refused_by_name(data):
    for decode in (from_worker, to_worker):
        try:
            decode(data)
        except WireError as error:
            assert error.reason in ("version", "length", "header")


def test_another_version_is_refused_as_such():
    with pytest.raises(WireError) as caught:
        from_worker(bytes([99]) + encode(Request(1, "pause"))[1:])
    assert caught.value.reason == "version"
