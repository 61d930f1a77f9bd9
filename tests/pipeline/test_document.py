"""YAML documents: every error names the file, the line and the key."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtpipe.errors import ConfigError
from rtpipe.pipeline.document import convert, override, parse


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: str
    speed: float = 1.0
    sizes: list[int] = []


TEXT = """\
sources:
  camera:
    driver: replay
    speed: fast
"""


def test_lines_are_those_of_the_file():
    document = parse(TEXT, "x.yaml")
    assert document.lines["sources", "camera", "speed"] == 4


def test_a_key_that_stands_twice_is_refused_with_its_line():
    with pytest.raises(ConfigError, match=r"x\.yaml:2: a: this key stands twice"):
        parse("a: 1\na: 2\n", "x.yaml")


@pytest.mark.parametrize(
    "text", ["a: [1", "!!python/object:os.system {}\n", "- 1\n- 2", "a: &x [*x]", "\x00", "{" * 5000]
)
def test_what_is_no_pipeline_file_is_refused_in_plain_words(text):
    try:
        document = parse(text, "x.yaml")
    except ConfigError as error:
        assert "x.yaml" in str(error)
        assert len(str(error).splitlines()) <= 3
    else:
        assert isinstance(document.data, dict)


@given(st.text())
def test_any_text_is_either_read_or_refused(text):
    try:
        parse(text, "x.yaml")
    except ConfigError:
        pass


def test_an_unknown_key_is_named_with_what_is_allowed():
    document = parse("a:\n  path: x\n  sped: 2\n", "x.yaml")
    with pytest.raises(ConfigError, match=r"x\.yaml:3: a\.sped: .*allowed: path, speed, sizes"):
        convert(document, ("a",), document.data["a"], Settings, what="replay")


def test_a_wrong_type_is_named_with_key_and_line():
    document = parse("a:\n  path: x\n  speed: fast\n", "x.yaml")
    with pytest.raises(ConfigError, match=r"x\.yaml:3: a\.speed: expected `float`, got `str`"):
        convert(document, ("a",), document.data["a"], Settings, what="replay")


def test_a_wrong_item_of_a_list_is_named_by_its_number():
    document = parse("a:\n  path: x\n  sizes:\n  - 1\n  - two\n", "x.yaml")
    with pytest.raises(ConfigError, match=r"x\.yaml:5: a\.sizes\[1\]"):
        convert(document, ("a",), document.data["a"], Settings, what="replay")


def test_a_missing_key_is_named():
    document = parse("a:\n  speed: 2\n", "x.yaml")
    with pytest.raises(ConfigError, match="path"):
        convert(document, ("a",), document.data["a"], Settings, what="replay")


def test_overrides_reach_into_mappings_and_lists_and_leave_the_original_alone():
    document = parse("sinks:\n- {sink: record, dir: a}\n", "x.yaml")
    changed = override(document, ["sinks.0.dir=/data", "sources.camera.loop=true", "engine.contrast=0.2"])
    assert changed.data == {
        "sinks": [{"sink": "record", "dir": "/data"}],
        "sources": {"camera": {"loop": True}},
        "engine": {"contrast": 0.2},
    }
    assert document.data == {"sinks": [{"sink": "record", "dir": "a"}]}


@pytest.mark.parametrize("bad", ["novalue", "=3", "sinks.7.dir=x", "sinks.first=x", "a.b.c.d=[1", "name.x=1"])
def test_a_bad_override_is_quoted(bad):
    document = parse("sinks: []\nname: x\n", "x.yaml")
    if bad == "name.x=1":  # a value that is no mapping gives way
        assert override(document, [bad]).data["name"] == {"x": 1}
        return
    with pytest.raises(ConfigError, match=r"[=']"):
        override(document, [bad])
