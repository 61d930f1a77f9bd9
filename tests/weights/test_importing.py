"""A checkpoint is imported once, strictly, with where it came from; what does not fit is named."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from rtpipe.errors import InputError
from rtpipe.weights import importing, store
from rtpipe.weights.strict import matched
from tests.weights import fake_network


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with fake_network.installed(tmp_path, monkeypatch):
        yield


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "Fake-GoPro.safetensors"
    save_file(fake_network.tensors(), path)
    return path


def test_a_checkpoint_becomes_weights_with_provenance(checkpoint: Path) -> None:
    done = importing.bring("fake", checkpoint, {"color_order": "rgb"}, now="2026-11-21")
    assert not done.already
    found = store.load("fake-gopro")
    assert all(np.array_equal(found.tensors[name], array) for name, array in fake_network.tensors().items())
    assert found.properties.values["color_order"] == "rgb"
    assert found.properties.values["called"] == "Fake-GoPro.safetensors"
    assert dict(found.provenance) | {"rtpipe": ""} == {
        "file": "Fake-GoPro.safetensors",
        "sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        "imported": "2026-11-21",
        "read_by": "rtpipe",
        "licence": "Apache-2.0",
        "rtpipe": "",
    }


def test_a_second_import_says_so_and_another_file_is_refused(checkpoint: Path) -> None:
    first = importing.bring("fake", checkpoint, {}, now="2026-01-01")
    again = importing.bring("fake", checkpoint, {}, now="2026-02-02")
    assert again.already
    assert again.stored.provenance["imported"] == "2026-01-01"
    with pytest.raises(InputError, match="--overwrite"):
        importing.bring("fake", checkpoint, {"color_order": "rgb"})
    save_file(fake_network.tensors(5), checkpoint)
    with pytest.raises(InputError, match="--overwrite"):
        importing.bring("fake", checkpoint, {})
    replaced = importing.bring("fake", checkpoint, {}, overwrite=True)
    assert store.load("fake-gopro").sha256 == replaced.stored.sha256 != first.stored.sha256
    assert not importing.bring("fake", checkpoint, {}, name="mine").already


def test_a_damaged_file_of_the_same_name_is_not_taken_for_imported(checkpoint: Path) -> None:
    path = importing.bring("fake", checkpoint, {}).stored.path
    path.write_bytes(b"rubbish")
    with pytest.raises(InputError, match="--overwrite"):
        importing.bring("fake", checkpoint, {})
    importing.bring("fake", checkpoint, {}, overwrite=True)
    store.load("fake-gopro")


def test_another_networks_checkpoint_says_whose_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({f"net.{name}": array for name, array in fake_network.tensors().items()}, path)
    with pytest.raises(InputError) as caught:
        importing.bring("fake", path, {})
    assert "not the weights of Fake: 0 of its 3 tensors fit" in str(caught.value)
    assert f"rtpipe engines import fakeother {path}" in str(caught.value)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    tensors = fake_network.tensors(**{"head.bias": (5,), "extra": (1,)})
    del tensors["norm.num_batches_tracked"]
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(InputError) as caught:
        importing.bring("fake", tmp_path / "x.safetensors", {})
    first, second = str(caught.value).splitlines()
    assert first.endswith("not the weights of Fake: 1 of its 3 tensors fit")
    assert second == (
        "missing: norm.num_batches_tracked; superfluous: extra; of another shape: head.bias 5 instead of 4"
    )
    assert store.listed() == ()


def test_the_first_few_of_many_are_named_and_the_order_is_the_networks() -> None:
    arrays = {f"t{k}": np.zeros(1) for k in range(9)}
    assert list(matched(arrays, {f"t{k}": (1,) for k in reversed(range(9))}, "it")) == [
        f"t{k}" for k in range(8, -1, -1)
    ]
    with pytest.raises(InputError, match="superfluous: t0, t1, t2 and 6 more"):
        matched(arrays, {}, "it")
    with pytest.raises(InputError) as caught:
        matched({"a\nb" * 100: np.zeros(1)}, {}, "it")
    assert len(str(caught.value).splitlines()) == 2
    assert len(str(caught.value)) < 250


def test_a_property_that_the_network_lacks_is_refused(checkpoint: Path) -> None:
    with pytest.raises(InputError, match="--set colour: fake has no such property; it has: called, color_order, mask"):
        importing.bring("fake", checkpoint, {"colour": "rgb"})
    assert importing.bring("fake", checkpoint, {"variant": "mine"}).stored.path.stem == "fake-mine"


def test_engines_without_weights_and_unknown_ones_are_said(checkpoint: Path) -> None:
    with pytest.raises(InputError, match=r"'edi' needs no weights; those that do: .*fake, fakeother, fakepackaged"):
        importing.bring("edi", checkpoint, {})
    with pytest.raises(InputError, match="there is no engine 'nothing'"):
        importing.bring("nothing", checkpoint, {})
