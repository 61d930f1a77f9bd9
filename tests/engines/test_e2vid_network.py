"""E2VID and FireNet against golden vectors: every number that the published networks give, step by step."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engines.e2vid.network import E2VID, FireNet, e2vid_states, firenet_states, margins  # noqa: E402
from tests.engines.e2vid_golden import case, resolution, tensors  # noqa: E402

CLOSE = 5e-6
MAKE = {"e2vid-bn": E2VID, "e2vid-up": lambda: E2VID(norm=None, upsample=True), "firenet": FireNet}
CASES = [(kind, which) for kind in MAKE for which in "ab"]
every = pytest.mark.parametrize(("kind", "which"), CASES, ids=["-".join(each) for each in CASES])
INSIDE = {
    "e2vid": {
        "enc0": lambda net: net.unetrecurrent.encoders[0],
        "res1": lambda net: net.unetrecurrent.resblocks[1],
        "dec0": lambda net: net.unetrecurrent.decoders[0],
        "pred_raw": lambda net: net.unetrecurrent.pred,
    },
    "firenet": {
        "head": lambda net: net.net.head,
        "rec1": lambda net: net.net.resblocks[0],
        "res_last": lambda net: net.net.resblocks[1],
    },
}
"""Where the intermediate activations of the golden set are made."""


@pytest.fixture(scope="module")
def network(shared):
    """``network(kind)``: with golden weights, ready to run."""

    def make(kind):
        made = MAKE[kind]()
        made.load_state_dict({name: torch.from_numpy(array) for name, array in tensors(shared, kind).items()})
        return made.eval()

    return make


@every
def test_tensors_have_the_published_names_shapes_and_order(shared, kind, which):
    golden = case(shared, f"{kind}-{which}")
    found = MAKE[kind]().state_dict()
    assert list(found) == list(golden["state_names"])
    shapes = ["x".join(map(str, tensor.shape)) for tensor in found.values()]
    assert shapes == list(golden["state_shapes"])


@every
def test_images_states_and_what_lies_between_are_the_golden_ones(shared, network, kind, which):
    golden, net = case(shared, f"{kind}-{which}"), network(kind)
    seen, state = {}, None
    for name, find in INSIDE[kind.split("-")[0]].items():
        find(net).register_forward_hook(lambda *args, name=name: seen.update({name: args[2]}))
    with torch.inference_mode():
        for step in range(3):
            image, state = net(torch.from_numpy(golden[f"mid_voxnorm{step}"])[None], state, crop=False)
            assert np.abs(image.numpy() - golden[f"out_image{step}"]).max() <= CLOSE
    for name, value in seen.items():
        value = value[0] if isinstance(value, tuple) else value
        assert np.abs(value.numpy() - golden[f"mid_{name}_2"]).max() <= CLOSE, name
    names = ("g0", "g1") if kind == "firenet" else ("h0", "c0", "h1", "c1", "h2", "c2")
    for name, value in zip(names, state, strict=True):
        assert np.abs(value.numpy() - golden[f"state_{name}"]).max() <= CLOSE, name
    width, height = resolution(golden)
    sizes = firenet_states(height, width) if kind == "firenet" else e2vid_states(height, width)
    assert [tuple(value.shape[1:]) for value in state] == list(sizes)


@pytest.mark.parametrize("kind", ["e2vid-bn", "firenet"])
def test_the_image_is_cropped_to_the_input_unless_asked_for_whole(shared, network, kind):
    golden, net = case(shared, f"{kind}-b"), network(kind)
    voxel = torch.from_numpy(golden["mid_voxnorm0"])[None]
    with torch.inference_mode():
        cropped, whole = net(voxel)[0], net(voxel, crop=False)[0]
    height, width = voxel.shape[2:]
    assert cropped.shape == (1, 1, height, width)
    top, left = (whole.shape[2] // 2 - height // 2, whole.shape[3] // 2 - width // 2)  # the published rule
    assert torch.equal(cropped, whole[:, :, top : top + height, left : left + width])


def test_margins_lie_before_and_after_with_the_odd_pixel_before():
    assert [margins(side) for side in (16, 15, 14, 13, 9)] == [(0, 0), (1, 0), (1, 1), (2, 1), (4, 3)]


def test_the_padding_is_as_the_checkpoint_wants_it(shared, network):
    reflecting, zeros = network("e2vid-up"), E2VID(None, True, padding="zeros").eval()
    zeros.load_state_dict(reflecting.state_dict())
    voxel = torch.from_numpy(case(shared, "e2vid-up-b")["mid_voxnorm0"])[None]
    by_hand = {}
    (top, bottom), (left, right) = margins(voxel.shape[2]), margins(voxel.shape[3])
    for mode in ("reflect", "constant"):
        by_hand[mode] = torch.from_numpy(np.pad(voxel, ((0, 0), (0, 0), (top, bottom), (left, right)), mode))
    with torch.inference_mode():
        assert torch.equal(reflecting(voxel)[0], reflecting(by_hand["reflect"])[0][:, :, top:-bottom, left:-right])
        assert torch.equal(zeros(voxel)[0], reflecting(by_hand["constant"])[0][:, :, top:-bottom, left:-right])


def test_e2vid_plus_is_the_second_variant_without_a_sigmoid_and_with_flow_beside_the_image(shared, network):
    plain, plus = network("e2vid-up"), E2VID(None, True, plus=True).eval()
    state = plain.state_dict()
    for name in ("weight", "bias"):
        key = f"unetrecurrent.pred.conv2d.{name}"
        state[key] = torch.cat((state[key], torch.ones_like(state[key]).repeat_interleave(2, 0)))
    plus.load_state_dict(state)
    voxel = torch.from_numpy(case(shared, "e2vid-up-a")["mid_voxnorm0"])[None]
    with torch.inference_mode():
        image = plus(voxel)[0]
        assert torch.allclose(torch.sigmoid(image), plain(voxel)[0], atol=1e-6)
    assert image.shape == (1, 1, *voxel.shape[2:])


@pytest.mark.parametrize("kind", ["e2vid-up", "firenet"])
def test_pictures_of_a_batch_do_not_touch_one_another(shared, network, kind):
    golden, net = case(shared, f"{kind}-b"), network(kind)
    voxels = torch.stack([torch.from_numpy(golden[f"mid_voxnorm{step}"]) for step in range(2)])
    with torch.inference_mode():
        together, state = net(voxels)
        again = net(voxels, state)[0]
        for k in range(2):
            alone, one = net(voxels[k : k + 1])
            assert torch.allclose(together[k : k + 1], alone, atol=1e-6)
            assert torch.allclose(again[k : k + 1], net(voxels[k : k + 1], one)[0], atol=1e-6)
