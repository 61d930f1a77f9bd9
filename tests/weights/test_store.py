"""Weights are kept whole, with what they are; damage, strangers and missing ones are said in plain words."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from rtpipe.errors import FormatError, InputError, WorldError
from rtpipe.weights import store
from rtpipe.weights.learned import Properties
from tests.weights import fake_network

PROPERTIES = Properties("fake", "gopro", {"color_order": "bgr", "mask": "yes"})


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with fake_network.installed(tmp_path, monkeypatch):
        yield


def test_what_is_saved_is_loaded_by_name_and_by_path() -> None:
    tensors = {
        "transposed": np.arange(6, dtype=np.float64).reshape(2, 3).T,
        "counter": np.array(3, np.int32),
        "half": np.float16([1.5, 2.5]),
    }
    saved = store.save(tensors, PROPERTIES, {"file": "a.pth"})
    assert saved.path == store.directory() / "fake-gopro.safetensors"
    for found in (store.load("fake-gopro"), store.load(str(saved.path)), store.load(saved.path)):
        assert found.properties == PROPERTIES
        assert found.provenance["file"] == "a.pth"
        assert found.sha256 == saved.sha256
        assert {name: array.dtype.name for name, array in found.tensors.items()} == {
            "transposed": "float32",
            "counter": "int64",
            "half": "float32",
        }
        assert all(np.array_equal(found.tensors[name], array) for name, array in tensors.items())
        assert all(array.flags.c_contiguous for array in found.tensors.values())


def test_the_file_says_to_others_what_it_is() -> None:
    saved = store.save(fake_network.tensors(), PROPERTIES, {"file": "a.pth"})
    with safe_open(saved.path, framework="np") as file:
        said = file.metadata()
    assert (said["network"], said["property.mask"], said["provenance.file"]) == ("fake", "yes", "a.pth")
    assert said["sha256"] == saved.sha256


def test_the_fingerprint_is_of_names_types_shapes_and_bytes() -> None:
    one = {"a": np.arange(4, dtype=np.float32), "b": np.zeros(2, np.float32)}
    assert store.fingerprint(one) == store.fingerprint(dict(reversed(one.items())))
    others = [
        {"a": one["a"].reshape(2, 2), "b": one["b"]},
        {"a": one["a"] + 1, "b": one["b"]},
        {"b": one["a"], "a": one["b"]},
        {"a": one["a"].view(np.int32), "b": one["b"]},
    ]
    assert len({store.fingerprint(each) for each in [one, *others]}) == 5
    by_hand = hashlib.sha256(b"a\0<f4\0(1,)\0" + np.float32([2]).tobytes()).hexdigest()
    assert store.fingerprint({"a": np.float32([2])}) == by_hand


def test_weights_live_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert store.directory() == tmp_path / "weights"
    monkeypatch.delenv("RTPIPE_WEIGHTS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert store.directory() == tmp_path / "data" / "rtpipe" / "weights"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store.directory() == tmp_path / ".local" / "share" / "rtpipe" / "weights"


def test_a_name_that_is_taken_is_refused_unless_told() -> None:
    store.save(fake_network.tensors(1), PROPERTIES, {})
    with pytest.raises(InputError, match="--overwrite"):
        store.save(fake_network.tensors(2), PROPERTIES, {})
    two = store.save(fake_network.tensors(2), PROPERTIES, {}, overwrite=True)
    assert store.load("fake-gopro").sha256 == two.sha256
    store.save(fake_network.tensors(3), PROPERTIES, {}, name="mine")
    assert [each.name for each in store.listed()] == ["fake-gopro", "mine"]


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a b", "x" * 101, "é"])
def test_names_are_never_paths(name: str) -> None:
    with pytest.raises(InputError, match="no name"):
        store.path_of(name)


def test_a_failed_write_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    store.save(fake_network.tensors(1), PROPERTIES, {})
    before = store.load("fake-gopro").sha256
    monkeypatch.setattr(store.os, "fsync", full)
    with pytest.raises(WorldError, match="No space left"):
        store.save(fake_network.tensors(2), PROPERTIES, {}, overwrite=True)
    assert [path.name for path in store.directory().iterdir()] == ["fake-gopro.safetensors"]
    assert store.load("fake-gopro").sha256 == before


def test_who_reads_while_weights_are_replaced_has_the_old_ones_whole() -> None:
    path = store.save(fake_network.tensors(1), PROPERTIES, {}).path
    before = path.read_bytes()
    with path.open("rb") as reader:
        store.save(fake_network.tensors(2), PROPERTIES, {}, overwrite=True)
        assert reader.read() == before != path.read_bytes()


def test_numbers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(InputError, match="finite"):
        store.save({"head.bias": np.float32([1, np.nan])}, PROPERTIES, {})
    with pytest.raises(InputError, match="finite"):
        store.save({"wide": np.array([1e300])}, PROPERTIES, {})


def test_damage_is_found() -> None:
    path = store.save(fake_network.tensors(), PROPERTIES, {}).path
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(FormatError, match="damaged"):
        store.load("fake-gopro")
    path.write_bytes(whole[:-5])
    with pytest.raises(FormatError, match="safetensors"):
        store.load("fake-gopro")
    (listed,) = store.listed()
    assert listed.properties is None
    assert "fake-gopro.safetensors" in listed.problem


def test_a_file_that_was_never_imported_is_told_from_ours(tmp_path: Path) -> None:
    save_file({"a": np.zeros(2, np.float32)}, tmp_path / "x.safetensors")
    with pytest.raises(FormatError, match="rtpipe engines import NETWORK"):
        store.load(tmp_path / "x.safetensors")
    (tmp_path / "y.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(FormatError, match="not a whole"):
        store.load(tmp_path / "y.safetensors")


def test_missing_weights_are_explained_in_two_lines() -> None:
    with pytest.raises(InputError) as caught:
        store.load("fake-gopro")
    first, second = str(caught.value).splitlines()
    assert "there are no weights 'fake-gopro'" in first
    assert "get Fake-GoPro.pth from the authors' page" in first
    assert "rtpipe engines import fake Fake-GoPro.pth" in second
    assert "go on without: engine: edi" in second


def test_missing_weights_of_ones_own_and_of_nobody_are_explained() -> None:
    with pytest.raises(InputError, match=r"published: fake-gopro, fake-night.*\n.*import fake FILE --name fake-mine"):
        store.load("fake-mine")
    store.save(fake_network.tensors(), PROPERTIES, {})
    with pytest.raises(InputError, match="there is: fake-gopro"):
        store.load("unheard-of")
    with pytest.raises(InputError, match="no such file"):
        store.load("some/where.safetensors")


def test_the_longest_name_of_an_engine_counts() -> None:
    found = store.network_of("fakeother-x")
    assert found is not None
    assert found.name == "fakeother"
    assert store.network_of("fakebroken") is None
    assert store.network_of("edi") is None
