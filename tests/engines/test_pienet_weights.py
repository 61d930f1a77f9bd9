"""PIE-Net's weights: out of the package that brings them, without PyTorch, and what is said where it is not there."""

import subprocess
import sys
from importlib import metadata

import numpy as np
import pytest

from engines.pienet import NETWORK
from engines.pienet.weights import LAYOUTS, PACKAGE
from rtpipe.engine import load_engine
from rtpipe.errors import InputError
from rtpipe.weights import checkpoint, store
from tests.engines.pienet_package import Package

ALONE = """
import sys
for name in ("torch", "torchvision", "onnx", "onnxscript", "pie_net"):
    sys.modules[name] = None  # importing it fails
import numpy as np
from rtpipe.engine import load_engine
from rtpipe.types import Window
from engines.pienet import NETWORK
if "import" in sys.argv:
    print([each.name for each in NETWORK.import_packaged(False)])
engine = load_engine("pienet", variant="full")
engine.warm((50, 40))
grid = np.random.default_rng(0).standard_normal((5, 40, 50)).astype(np.float32)
(frame,) = engine.infer(Window(0, 25_000, 2_000, grid))
print(frame.image.std() > 5, engine.facts["runtime"].partition(" 1")[0])
"""


@pytest.fixture(autouse=True)
def weights(tmp_path, monkeypatch):
    monkeypatch.setenv("RTPIPE_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def published(variant):
    package = metadata.distribution(PACKAGE)
    return checkpoint.read(package.locate_file(f"pie_net/pretrained/{LAYOUTS[variant].file}")).tensors


def test_both_networks_come_out_of_the_package_with_its_licence():
    listed = NETWORK.import_packaged()
    assert [each.name for each in listed] == ["pienet-lite", "pienet-full"]
    for each in listed:
        stored = store.load(each.name)
        assert stored.properties == each.properties
        assert stored.properties.values["normalisation"] == "none"
        assert stored.provenance["package"] == f"{PACKAGE} {metadata.version(PACKAGE)}"
        assert stored.provenance["licence"] == "MIT"
        assert "Permission is hereby granted" in stored.provenance["licence_text"]
        tensors = published(stored.properties.variant)
        assert all(np.array_equal(array, tensors[name]) for name, array in stored.tensors.items())


def test_once_imported_onnx_runtime_alone_runs_them():
    """Neither importing nor running needs PyTorch, onnx or the package's code."""
    for arguments, said in ((["import"], ["['pienet-lite', 'pienet-full']"]), ([], [])):
        ran = subprocess.run([sys.executable, "-c", ALONE, *arguments], capture_output=True, text=True, timeout=120)
        assert ran.stdout.splitlines() == [*said, "True ONNX Runtime"], ran.stderr


def test_importing_again_changes_nothing_and_replaces_only_when_told():
    before = [each.path.stat().st_mtime_ns for each in NETWORK.import_packaged()]
    assert [each.path.stat().st_mtime_ns for each in NETWORK.import_packaged()] == before
    stored = store.load("pienet-full")
    store.save(stored.tensors, stored.properties, {"file": "my own"}, overwrite=True)
    with pytest.raises(InputError, match="--overwrite"):
        NETWORK.import_packaged()
    NETWORK.import_packaged(overwrite=True)
    assert store.load("pienet-full").provenance["file"] == "model.pth"


def test_where_the_package_is_not_installed_it_is_said_what_to_type(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(InputError) as raised:
        NETWORK.import_packaged()
    said = str(raised.value)
    assert "pip install --no-deps event-pienet; then: rtpipe engines import pienet" in said
    assert "network: complementary" in said
    assert len(said) < 500


def test_a_run_without_weights_says_how_to_get_them_and_how_to_go_on():
    with pytest.raises(InputError) as raised:
        load_engine("pienet").warm((64, 48))
    said = str(raised.value)
    assert "'pienet-lite'" in said
    assert "pip install --no-deps event-pienet" in said
    assert "rtpipe engines import pienet" in said
    assert "network: complementary" in said


def test_a_package_whose_files_are_others_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "pie_net" / "pretrained"
    folder.mkdir(parents=True)
    np.savez(folder / "model_lite.npz", **published("full"))
    (folder / "model_lite.npz").rename(folder / "model_lite.pth")

    class Other:
        version, metadata = "9", {"License": "MIT"}

        def locate_file(self, name):
            return tmp_path / name

        def read_text(self, name):
            return None

    monkeypatch.setattr(metadata, "distribution", lambda name: Other())
    with pytest.raises(InputError, match="holds PIE-Net full where lite belongs"):
        NETWORK.import_packaged()
    (folder / "model_lite.pth").unlink()
    with pytest.raises(InputError, match=r"model_lite\.pth: cannot be read"):
        NETWORK.import_packaged()
    assert store.listed() == ()


@pytest.mark.parametrize("variant", ["lite", "full"])
def test_parameters_are_those_of_the_package(variant):
    assert NETWORK.parameters(variant) == Package(variant, (40, 40)).parameters
    # the authors count multiply-adds at 240x180, 1.58 and 1.59 billion; ours are two operations each, of convolutions
    assert NETWORK.gflop((240, 180), variant) / 2 == pytest.approx(1.585, rel=0.13)
    assert NETWORK.gflop((238, 179), variant) == NETWORK.gflop((240, 180), variant), "padding counts"


def test_a_checkpoint_is_taken_whole_or_not_at_all():
    tensors = published("full")
    found, properties = NETWORK.recognise(tensors, {}, {})
    assert properties.variant == "full"
    assert len(tensors) - len(found) == 12, "the file has tensors that its network does not use"
    with pytest.raises(InputError, match="missing"):
        NETWORK.recognise({name: tensors[name] for name in list(tensors)[1:]}, {}, {})
    with pytest.raises(InputError, match="superfluous"):
        NETWORK.recognise({**published("lite"), "more": np.zeros(3, np.float32)}, {}, {})
    name = "model.outc.weight"
    with pytest.raises(InputError, match="of another shape"):
        NETWORK.recognise({**tensors, name: tensors[name][:2]}, {}, {})
    with pytest.raises(InputError, match="no property 'bins'"):
        NETWORK.recognise(tensors, {}, {"bins": "3"})
