"""HyperE2VID against golden vectors, and as an engine that hands its last image on."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engines.e2vid.hyper import HyperE2VID, states  # noqa: E402
from engines.e2vid.hyper_weights import HYPER, shapes  # noqa: E402
from rtpipe.engine import load_engine  # noqa: E402
from rtpipe.errors import InputError  # noqa: E402
from rtpipe.types import Window  # noqa: E402
from tests.engines.e2vid_golden import case, install, tensors  # noqa: E402

CLOSE = 1e-5
INSIDE = {
    "dec0": lambda net: net.unetrecurrent.decoders[0],
    "context": lambda net: net.unetrecurrent.decoders[0].context_fusion,
    "atoms": lambda net: net.unetrecurrent.decoders[0].dynamic_atom_generation,
}


@pytest.fixture(scope="module")
def network(shared):
    made = HyperE2VID()
    made.load_state_dict({name: torch.from_numpy(array) for name, array in tensors(shared, "hyper").items()})
    return made.eval()


def test_tensors_sizes_and_costs_are_the_published_ones(shared):
    lines = shared("networks/hypere2vid_state_dict.txt").read_text().splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    assert [(row[0], row[1]) for row in rows] == [(name, str(shape)) for name, shape in shapes().items()]
    assert [row[0] for row in rows] == list(HyperE2VID().state_dict())
    assert HYPER.parameters() == 10_149_881
    costs = [HYPER.gflop(size) for size in ((346, 260), (640, 480), (1280, 720))]
    assert costs == pytest.approx((78, 259, 777), rel=0.01)


def test_images_states_and_what_lies_between_are_the_golden_ones(shared, network):
    golden, seen, state = case(shared, "hyper-a"), {}, None
    hooks = [
        find(network).register_forward_hook(lambda *args, name=name: seen.update({name: args[2]}))
        for name, find in INSIDE.items()
    ]
    with torch.inference_mode():
        for step in range(3):
            image, state = network(torch.from_numpy(golden[f"in_vox{step}"]), state)
            assert np.abs(image.numpy() - golden[f"out_image{step}"]).max() <= CLOSE
    for hook in hooks:
        hook.remove()
    for name in INSIDE:
        assert np.abs(seen[name].numpy() - golden[f"mid_{name}_2"]).max() <= CLOSE, name
    for name, value in zip(("h0", "c0", "h1", "c1", "h2", "c2"), state, strict=False):
        assert np.abs(value.numpy() - golden[f"state_{name}"]).max() <= CLOSE, name
    assert torch.equal(state[-1], image)
    assert [tuple(value.shape[1:]) for value in state] == list(states(40, 48))


@pytest.mark.parametrize("runtime", ["torch", pytest.param("onnxruntime", marks=pytest.mark.slow)])
def test_the_engine_hands_the_last_image_on_and_forgets_it_when_told(shared, network, runtime, tmp_path, monkeypatch):
    """An odd size, padded with zeros; the module called plainly is what it is compared with."""
    monkeypatch.setenv("RTPIPE_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    install(shared, "hyper")
    voxels = np.random.default_rng(4).normal(size=(3, 5, 27, 33)).astype(np.float32)
    engine = load_engine("hypere2vid", runtime=runtime, device="cpu")
    engine.warm((33, 27))
    for _ in range(2):
        state = None
        for voxel in voxels:
            with torch.inference_mode():
                wanted, state = network(torch.from_numpy(voxel)[None], state, crop=False)
            assert np.abs(engine.image(Window(0, 1, 9, voxel)) - wanted.numpy()).max() <= 2e-5
        engine.reset()
    (picture,) = engine.infer(Window(0, 1, 9, voxels[0]))
    assert (picture.image.shape, picture.source) == ((27, 33), "hypere2vid")
    with torch.inference_mode():  # without the last image it would be another one
        forgotten = network(torch.from_numpy(voxels[2])[None], (*state[:-1], torch.zeros_like(state[-1])))[0]
        remembered = network(torch.from_numpy(voxels[2])[None], state)[0]
    assert (forgotten - remembered).abs().max() > 1e-3


def test_e2vids_own_tensors_are_refused(shared):
    with pytest.raises(InputError, match="dynamic_atom_generation"):
        HYPER.recognise(tensors(shared, "e2vid-up"), {}, {})
    with pytest.raises(InputError, match="padding"):
        HYPER.recognise(tensors(shared, "hyper"), {}, {"padding": "zeros"})
