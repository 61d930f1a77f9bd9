"""Keys as files: made once, readable by their owner alone, refused where they are none."""

import os
import stat

import pytest
import zmq.auth
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtpipe.errors import InputError
from rtpipe.sockets import keys
from tests.pipeline.command_line import rtpipe

OTHER = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "rtpipe" / "keys"


def test_a_pair_is_made_once_and_its_secret_is_its_owners_alone(home):
    first, made = keys.make()
    again, made_again = keys.make()
    assert (made, made_again) == (True, False)
    assert first == again
    assert stat.S_IMODE((home / "own.key_secret").stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert b"secret" not in (home / "own.key").read_bytes()


def test_zeromqs_own_reader_reads_the_files(home):
    own, _ = keys.make()
    public, secret = zmq.auth.load_certificate(home / "own.key_secret")
    assert public == own.public
    assert zmq.curve_public(secret) == public
    assert zmq.auth.load_certificate(home / "own.key") == (public, None)
    keys.add("laptop", OTHER)
    assert zmq.auth.load_certificate(home / "laptop.key")[0] == OTHER.encode()


def test_a_file_that_zeromq_wrote_is_taken(tmp_path):
    public, _ = zmq.auth.create_certificates(tmp_path, "theirs")
    assert keys.add("theirs", public).public == zmq.auth.load_certificate(public)[0]


def test_a_new_pair_takes_the_old_ones_place_only_when_asked_for():
    first, _ = keys.make()
    second, _ = keys.make(overwrite=True)
    assert first.public != second.public
    assert keys.own() == second


def test_machines_are_known_by_name_and_forgotten_by_name():
    keys.add("laptop", OTHER)
    assert [each.name for each in keys.known()] == ["laptop"]
    keys.remove("laptop")
    assert keys.known() == []
    with pytest.raises(InputError, match="no machine 'laptop' is known"):
        keys.remove("laptop")


def test_a_name_does_not_silently_change_its_key_and_a_key_not_its_name():
    keys.add("laptop", OTHER)
    keys.add("laptop", OTHER)
    with pytest.raises(InputError, match="known with another key"):
        keys.add("laptop", zmq.curve_keypair()[0].decode())
    with pytest.raises(InputError, match="known already, as laptop"):
        keys.add("desktop", OTHER)


@pytest.mark.parametrize("name", ["own", "", "../x", "a/b", ".hidden", "a b", "x" * 65])
def test_a_name_is_no_path(name):
    with pytest.raises(InputError, match="no name for a machine"):
        keys.add(name, OTHER)
    with pytest.raises(InputError, match="no name for a machine"):
        keys.remove(name)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=45))
def test_what_is_no_key_is_refused_in_one_line(text):
    if len(text) == 40 and all(33 <= ord(c) < 127 for c in text):
        return
    with pytest.raises(InputError, match="no CURVE key") as told:
        keys.add("somebody", text.replace("\0", ""))
    assert "\n" not in str(told.value)


def test_damaged_files_are_named(home):
    keys.make()
    (home / "bad.key").write_bytes(os.urandom(2000))
    with pytest.raises(InputError, match=r"bad\.key: there is no public-key"):
        keys.known()
    (home / "bad.key").unlink()
    secret = (home / "own.key_secret").read_text()
    other = zmq.curve_keypair()[1].decode()
    (home / "own.key_secret").write_text(secret[: secret.index("secret-key")] + f'secret-key = "{other}"\n')
    keys.add("laptop", OTHER)
    with pytest.raises(InputError, match="do not belong together"):
        keys.server()


def test_what_is_missing_is_said_with_what_to_do():
    with pytest.raises(InputError, match="rtpipe keys make"):
        keys.server()
    keys.make()
    with pytest.raises(InputError, match="rtpipe keys add NAME KEY"):
        keys.server()
    with pytest.raises(InputError, match="rtpipe keys add jetson KEY"):
        keys.client("jetson")


def test_the_command_line_makes_adds_lists_and_removes(home):
    env = {"XDG_CONFIG_HOME": str(home.parents[1])}
    code, out, _ = rtpipe("keys", env=env)
    assert code == 0
    assert "rtpipe keys make" in out
    _, out, _ = rtpipe("keys", "make", env=env)
    public = out.splitlines()[1]
    assert keys.own().public.decode() == public
    assert rtpipe("keys", "add", "laptop", OTHER, env=env)[0] == 0
    _, out, _ = rtpipe("keys", env=env)
    assert public in out
    assert f"laptop         {OTHER}" in out
    assert rtpipe("keys", "remove", "laptop", env=env)[0] == 0
    code, _, err = rtpipe("keys", "add", "laptop", "nonsense", env=env)
    assert code == 2
    assert len(err.splitlines()) == 1
