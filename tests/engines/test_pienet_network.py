"""The ONNX files that we write compute what the authors' package computes, and are what ONNX says they must be."""

import numpy as np
import onnx
import pytest

from engines.pienet import NETWORK, graph
from engines.runtime import onnxruntime as runtime
from rtpipe.errors import InputError
from rtpipe.types import Events
from rtpipe.weights import store
from rtpipe.window.voxel import voxel_grid
from tests.engines.pienet_package import Package


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Both sets of weights, imported."""
    folder = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RTPIPE_WEIGHTS", str(folder))
        NETWORK.import_packaged()
        return {variant: store.load(f"pienet-{variant}") for variant in ("lite", "full")}


def grids(resolution, count, seed=0):
    """Voxel grids of random events, no two alike in number."""
    random = np.random.default_rng(seed)
    width, height = resolution
    for step in range(count):
        n = width * height // (3 + 4 * step)
        t, p = np.sort(random.integers(0, 20_000, n)), random.integers(0, 2, n)
        events = Events(t, random.integers(0, width, n), random.integers(0, height, n), p)
        yield voxel_grid(events, bins=5, resolution=resolution)[None]


def opened(stored, resolution, precision="fp32"):
    return runtime.open(graph.pienet(stored, resolution), "cpu", precision, 1, lambda _: None)


@pytest.mark.parametrize("variant", ["lite", "full"])
@pytest.mark.parametrize("resolution", [(80, 60), (87, 66), (43, 21)])
def test_every_step_is_that_of_the_package(kept, variant, resolution):
    """From the first, which differs from all others, on; sizes that need padding on one side, on both, and none."""
    ours, package = opened(kept[variant], resolution), Package(variant, resolution)
    for grid in grids(resolution, 6):
        (image,) = ours.run([grid])
        wanted = package.step(grid)
        assert image.shape == (1, 1, *reversed(resolution))
        assert wanted.std() > 0.01
        assert np.abs(image - wanted).max() < 1e-5


@pytest.mark.parametrize("variant", ["lite", "full"])
def test_from_any_states_come_the_image_and_the_next_states_of_the_package(kept, variant):
    """Each state is random and of its own size: one taken for another, or left out, would show. Trained weights give no
    variance on events; here there is one, and it gates."""
    import onnxruntime

    resolution = 60, 40
    made = graph.pienet(kept[variant], resolution)
    session = onnxruntime.InferenceSession(made.onnx("fp32"), providers=["CPUExecutionProvider"])
    random = np.random.default_rng(3)
    states = {
        port.name: random.uniform(0.1 * index, 0.3 + 0.2 * index, port.shape).astype(np.float32)
        for index, port in enumerate(made.states)
        if port.name != "seen"
    }
    (grid,) = grids(resolution, 1, seed=4)
    feed = {"voxel": grid, **states, "seen": np.ones((1, 1, 1, 1), np.float32)}
    image, *following = session.run(None, feed)
    package = Package(variant, resolution)
    package.set(states)
    assert np.abs(image - package.step(grid)).max() < 1e-5
    for port, value in zip(made.states, following, strict=True):
        wanted = package.states[port.name] if port.name != "seen" else np.ones((1, 1, 1, 1))
        assert np.abs(value - wanted).max() <= 1e-5 * max(1.0, np.abs(wanted).max()), port.name
    unseen = session.run(None, {**feed, "seen": np.zeros((1, 1, 1, 1), np.float32)})[0]
    assert np.abs(unseen - image).max() > 1e-3, "the first step is another one"


@pytest.mark.parametrize("variant", ["lite", "full"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_file_is_onnx_with_states_of_the_precision_asked_for(kept, variant, precision):
    made = graph.pienet(kept[variant], (70, 44))
    model = onnx.load_from_string(made.onnx(precision))
    onnx.checker.check_model(model, full_check=True)
    ports = (*made.inputs, *made.states)
    assert [value.name for value in model.graph.input] == [port.name for port in ports]
    kinds = [value.type.tensor_type.elem_type for value in model.graph.input]
    half = onnx.TensorProto.FLOAT16 if precision == "fp16" else onnx.TensorProto.FLOAT
    assert kinds == [onnx.TensorProto.FLOAT, *[half] * len(made.states)]
    assert [value.name for value in model.graph.output] == ["image", *(f"{port.name}_next" for port in made.states)]
    assert model.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


@pytest.mark.parametrize("variant", ["lite", "full"])
def test_half_precision_makes_nearly_the_same_picture(kept, variant):
    """As a GPU would compute it, emulated; the difference after some steps is below what 8 bits show well."""
    resolution = 64, 48
    single, half = opened(kept[variant], resolution), opened(kept[variant], resolution, "fp16")
    for grid in grids(resolution, 4):
        difference = np.abs(single.run([grid])[0] - half.run([grid])[0])
        assert difference.max() < 0.03
        assert difference.mean() < 0.004


def test_a_large_sensor_costs_no_precision(kept):
    """Sums over millions of numbers: computed carelessly in float32 they cost three digits."""
    resolution = 320, 240
    (grid,) = grids(resolution, 1)
    image = opened(kept["lite"], resolution).run([grid])[0]
    assert np.abs(image - Package("lite", resolution).step(grid)).max() < 1e-5


def test_weights_of_another_network_are_refused(kept, tmp_path, monkeypatch):
    monkeypatch.setenv("RTPIPE_WEIGHTS", str(tmp_path))
    stored = kept["lite"]
    other = store.Properties("firenet", "", {})
    with pytest.raises(InputError, match="weights of firenet, not of pienet"):
        graph.pienet(store.save(stored.tensors, other, {}), (64, 48))
    wrong = store.Properties("pienet", "full", {})
    with pytest.raises(InputError, match="missing: model"):
        graph.pienet(store.save(stored.tensors, wrong, {}), (64, 48))
    strange = store.Properties("pienet", "huge", {})
    with pytest.raises(InputError, match="no variant 'huge'; there is lite, full"):
        graph.pienet(store.save(stored.tensors, strange, {}), (64, 48))
