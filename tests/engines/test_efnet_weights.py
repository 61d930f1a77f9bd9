"""EFNet's checkpoints: recognised strictly, with what was told of them and what was assumed."""

import subprocess
import sys

import numpy as np
import pytest

from engines.efnet import weights
from engines.efnet.prepare import Route
from rtpipe.engine import load_engine
from rtpipe.errors import InputError
from rtpipe.weights import importing
from rtpipe.weights.learned import Properties
from tests.engines.efnet_golden import GOPRO, install, tensors

NETWORK = weights.NETWORK


def recognised(found, file="EFNet-GoPro.pth", **given):
    return NETWORK.recognise(found, {"file": file}, given)


def initialised(found, how="uniform"):
    """The same with a gated connection that was never trained."""
    random = np.random.default_rng(0)
    changed = dict(found)
    for name, shape in weights.shapes().items():
        if ".emgc_" in name and (how == "uniform" or name.endswith("bias")):
            bound = 1 / np.sqrt(9 * shape[0]) if how == "uniform" else 0
            changed[name] = random.uniform(-bound, bound, shape).astype(np.float32)
    return changed


@pytest.mark.parametrize(
    ("file", "variant"), [("EFNet-GoPro.pth", "gopro"), ("EFNet-REBlur.pth", "reblur"), ("net_g_latest.pth", "gopro")]
)
def test_published_checkpoints_are_taken_as_they_were_trained(shared, file, variant) -> None:
    found, properties = recognised(tensors(shared), file)
    assert (properties.network, properties.variant) == ("efnet", variant)
    assert {**properties.values, "assumed": ""} == {**GOPRO, "assumed": ""}
    assert properties.values["assumed"] == "color_order, mask, representation, norm"
    assert list(found) == list(weights.shapes())
    assert weights.route(properties) == Route("bgr", "maxabs", "closed", "nearest")
    assert weights.route(properties, demonstration=True) == Route("bgr", "robust", "davis", "truncate")


@pytest.mark.parametrize("prefixes", [("module.",), ("params.",), ("params.", "module.")])
def test_names_may_be_nested_and_of_parallel_training(shared, prefixes) -> None:
    wrapped = {"".join(prefixes) + name: array for name, array in tensors(shared).items()}
    assert recognised(wrapped)[0].keys() == weights.shapes().keys()


@pytest.mark.parametrize("how", ["uniform", "zero biases"])
def test_a_gated_connection_that_was_never_trained_is_never_given_a_mask(shared, how) -> None:
    bare = initialised(tensors(shared), how)
    _, properties = recognised(bare)
    assert properties.variant == "highrev"
    assert {key: properties.values[key] for key in weights.HIGHREV} == weights.HIGHREV
    assert weights.route(properties) == Route("rgb", "meanstd", "none", "nearest")
    assert weights.route(properties, demonstration=True).mask == "none"
    with pytest.raises(InputError, match="never trained"):
        recognised(bare, mask="yes")


def test_one_gate_that_moved_is_enough_to_have_been_trained(shared) -> None:
    bare = initialised(tensors(shared))
    name = "down_path_2.1.emgc_dec.weight"
    bare[name] = bare[name] * np.float32(1.01)
    assert recognised(bare)[1].values["mask"] == "yes"


def test_what_the_user_states_holds_and_is_not_called_assumed(shared) -> None:
    _, properties = recognised(tensors(shared), norm="robust", variant="mine", color_order="rgb")
    assert properties.variant == "mine"
    assert (properties.values["norm"], properties.values["color_order"]) == ("robust", "rgb")
    assert properties.values["assumed"] == "mask, representation"
    assert recognised(tensors(shared), mask="no")[1].values["representation"] == "voxel"


def test_anything_else_is_refused_by_name(shared) -> None:
    found = tensors(shared)
    with pytest.raises(InputError, match=r"no property 'colour'; it has: color_order"):
        recognised(found, colour="rgb")
    with pytest.raises(InputError, match="one of bgr, rgb wanted"):
        recognised(found, color_order="grb")
    less = {name: array for name, array in found.items() if name != "last.bias"}
    with pytest.raises(InputError, match=r"182 of its 183 tensors fit\nmissing: last.bias"):
        recognised(less)
    with pytest.raises(InputError, match="superfluous: more"):
        recognised({**found, "more": np.zeros(3, np.float32)})
    with pytest.raises(InputError, match=r"last\.bias 4 instead of 3"):
        recognised({**found, "last.bias": np.zeros(4, np.float32)})
    with pytest.raises(InputError, match="norm not as efnet knows"):
        weights.route(Properties("efnet", "x", {**GOPRO, "norm": "softmax"}))
    with pytest.raises(InputError, match="weights of firenet"):
        weights.route(Properties("firenet", "", GOPRO))


@pytest.mark.parametrize(
    ("resolution", "with_mask", "without"),
    [((256, 256), 121.7, 102.4), ((346, 260), 168, 141), ((640, 480), 571, 480), ((1280, 720), 1712, 1440),
     ((1632, 1224), 3710, 3121)],
)  # fmt: skip
def test_operations_are_those_that_were_counted(resolution, with_mask, without) -> None:
    assert NETWORK.gflop(resolution) / 2 == pytest.approx(with_mask, rel=0.003)
    assert NETWORK.gflop(resolution, "highrev") / 2 == pytest.approx(without, rel=0.003)


def test_without_weights_it_says_how_to_get_them_and_how_to_go_on(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("RTPIPE_WEIGHTS", str(tmp_path))
    with pytest.raises(InputError) as refused:
        _ = load_engine("efnet").spec
    said = str(refused.value)
    assert "get EFNet-REBlur.pth from" in said
    assert "rtpipe engines import efnet EFNet-REBlur.pth" in said
    assert "engine.network=edi" in said
    assert len(said) < 500
    with pytest.raises(InputError, match="efnet-gopro"):
        load_engine("efnet", weights="efnet-gopro").warm((8, 8))


@pytest.mark.parametrize("how", ["pth", "parallel"])
def test_a_checkpoint_in_the_published_form_is_imported(shared, tmp_path, monkeypatch, how) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setenv("RTPIPE_WEIGHTS", str(tmp_path))
    found = tensors(shared)
    prefix = "module." if how == "parallel" else ""
    path = tmp_path / "EFNet-REBlur.pth"
    torch.save({"params": {prefix + name: torch.from_numpy(array) for name, array in found.items()}}, path)
    stored = importing.bring("efnet", path, {}).stored
    assert stored.path.name == "efnet-reblur.safetensors"
    assert all(np.array_equal(stored.tensors[name], array) for name, array in found.items())
    engine = load_engine("efnet")
    assert (engine.spec.representation, engine.spec.bins, engine.spec.needs_frame) == ("scer", 6, True)
    assert engine.facts["weights"] == "efnet-reblur"


def test_the_representation_is_that_of_the_weights(shared, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("RTPIPE_WEIGHTS", str(tmp_path))
    install(shared, "efnet-highrev", weights.HIGHREV)
    assert load_engine("efnet").spec.representation == "voxel"


def test_the_engine_is_known_where_pytorch_is_not_installed() -> None:
    code = "import sys; sys.modules['torch'] = None; import engines.efnet as e; print(e.NETWORK.parameters())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "8466445"
