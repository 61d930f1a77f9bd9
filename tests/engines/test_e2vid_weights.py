"""Checkpoints of E2VID and FireNet are recognised for what they are, and nothing else is."""

import numpy as np
import pytest

from engines.e2vid import weights
from engines.e2vid.graph import e2vid, firenet, preparation
from engines.e2vid.weights import E2VID, FIRENET, e2vid_shapes, firenet_shapes
from rtpipe.errors import InputError
from rtpipe.weights import checkpoint, store
from rtpipe.weights.learned import Properties
from tests.engines.e2vid_golden import stored

LISTS = {
    "e2vid_bn_tconv": e2vid_shapes(norm=True, upsample=False),
    "e2vid_nonorm_up": e2vid_shapes(norm=False, upsample=True),
    "firenet": firenet_shapes(),
}


def zeros(shapes):
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("name", LISTS)
def test_tensors_are_the_published_ones_in_their_order(shared, name):
    lines = shared(f"networks/{name}_state_dict.txt").read_text().splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    assert [(row[0], row[1]) for row in rows] == [(each, str(shape)) for each, shape in LISTS[name].items()]


@pytest.mark.parametrize(
    ("norm", "upsample", "plus"),
    [(True, False, False), (False, True, False), (True, True, False), (False, False, False), (False, True, True)],
)
def test_every_combination_has_the_tensors_of_its_module_and_is_told_from_them(norm, upsample, plus):
    torch = pytest.importorskip("torch")
    from engines.e2vid.network import E2VID as Network

    with torch.device("meta"):
        module = Network("BN" if norm else None, upsample, plus)
    shapes = e2vid_shapes(norm, upsample, plus)
    assert {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()} == shapes
    _, properties = E2VID.recognise(zeros(shapes) if not plus else flow(shapes), {}, {})
    assert E2VID.parameters(properties.variant) == sum(each.numel() for each in module.parameters())
    assert properties.values["norm"] == ("bn" if norm else "none")
    assert properties.values["decoder"] == ("upsampled" if upsample else "transposed")
    assert properties.values["activation"] == ("none" if plus else "sigmoid")


def flow(shapes):
    """As E2VID+ calls its tensors."""
    return {name.replace("unetrecurrent.", "unetflow."): array for name, array in zeros(shapes).items()}


def test_sizes_and_costs_are_the_published_ones():
    assert (E2VID.parameters(), E2VID.parameters("up"), FIRENET.parameters()) == (10_712_098, 10_710_401, 37_777)
    sizes = [(346, 260), (640, 480), (1280, 720)]
    for network, variant, wanted in (
        (E2VID, "", (63, 208, 625)),
        (E2VID, "plus", (84, 279, 837)),
        (FIRENET, "", (6.8, 23.1, 69.3)),
    ):
        assert [network.gflop(size, variant) for size in sizes] == pytest.approx(wanted, rel=0.01)


@pytest.mark.parametrize(
    ("file", "variant", "normalisation"), [("FireNet", "", "legacy"), ("FireNetplus", "plus", "none")]
)
def test_the_real_checkpoints_of_firenet_are_recognised_whole(shared, file, variant, normalisation):
    found = checkpoint.read(shared(f"weights/{file}.pth"))
    tensors, properties = FIRENET.recognise(found.tensors, found.config, {})
    assert (properties.network, properties.variant) == ("firenet", variant)
    assert properties.values == {"activation": "none", "bins": "5", "padding": "none", "normalisation": normalisation}
    assert {name: array.shape for name, array in tensors.items()} == firenet_shapes()
    assert sum(np.count_nonzero(array) for array in tensors.values()) > 37_000
    assert {id(array) for array in tensors.values()} == {id(array) for array in found.tensors.values()}


def test_each_module_of_firenet_plus_takes_its_own_place(shared):
    found = checkpoint.read(shared("weights/FireNetplus.pth"))
    tensors, _ = FIRENET.recognise(found.tensors, found.config, {})
    for theirs, ours in (
        ("head.conv2d", "net.head.conv.conv2d"),
        ("G1.reset_gate", "net.head.recurrent_block.reset_gate"),
        ("G1.update_gate", "net.head.recurrent_block.update_gate"),
        ("G1.out_gate", "net.head.recurrent_block.out_gate"),
        ("R1.conv1", "net.resblocks.0.conv.conv1"),
        ("R1.conv2", "net.resblocks.0.conv.conv2"),
        ("G2.reset_gate", "net.resblocks.0.recurrent_block.reset_gate"),
        ("G2.update_gate", "net.resblocks.0.recurrent_block.update_gate"),
        ("G2.out_gate", "net.resblocks.0.recurrent_block.out_gate"),
        ("R2.conv1", "net.resblocks.1.conv1"),
        ("R2.conv2", "net.resblocks.1.conv2"),
        ("pred.conv2d", "net.pred.conv2d"),
    ):
        for name in ("weight", "bias"):
            assert tensors[f"{ours}.{name}"] is found.tensors[f"{theirs}.{name}"]


def test_the_published_properties_hold_unless_the_user_states_others():
    shapes = e2vid_shapes(norm=True, upsample=False)

    def padding_and_norm(tensors, given):
        values = E2VID.recognise(tensors, {}, given)[1].values
        return values["padding"], values["normalisation"]

    assert padding_and_norm(zeros(shapes), {}) == ("reflect", "legacy")
    assert padding_and_norm(zeros(shapes), {"padding": "zeros"}) == ("zeros", "legacy")
    assert padding_and_norm(flow(e2vid_shapes(False, True, True)), {}) == ("zeros", "none")
    assert (
        FIRENET.recognise(zeros(firenet_shapes()), {}, {"normalisation": "none"})[1].values["normalisation"] == "none"
    )
    for wrong in ({"padding": "edge"}, {"color_order": "bgr"}):
        with pytest.raises(InputError):
            E2VID.recognise(zeros(shapes), {}, wrong)


@pytest.mark.parametrize("network", [E2VID, FIRENET])
def test_a_tensor_missing_too_many_or_of_another_shape_is_named(network):
    shapes = e2vid_shapes(norm=False, upsample=True) if network is E2VID else firenet_shapes()
    last = list(shapes)[-1]
    missing, more, wrong = zeros(shapes), zeros(shapes), zeros(shapes)
    del missing[last]
    more["extra.weight"] = np.zeros(3, np.float32)
    wrong[last] = np.zeros((7, 7), np.float32)
    for tensors, said in (
        (missing, f"missing: {last}"),
        (more, "superfluous: extra.weight"),
        (wrong, "another shape"),
    ):
        with pytest.raises(InputError, match=said):
            network.recognise(tensors, {}, {})
    with pytest.raises(InputError, match="missing"):
        network.recognise({}, {}, {})


def test_a_configuration_that_says_what_no_tensor_shows_is_heeded():
    shapes = e2vid_shapes(norm=True, upsample=False)
    for config in ({"model": {"skip_type": "no_skip"}}, {"config": {"model": {"skip_type": "no_skip"}}}):
        with pytest.raises(InputError, match="skip_type"):
            E2VID.recognise(zeros(shapes), config, {})
    E2VID.recognise(zeros(shapes), {"model": {"skip_type": "sum", "norm": "BN"}}, {})
    with pytest.raises(InputError, match="final_activation"):
        FIRENET.recognise(zeros(firenet_shapes()), {"config": {"model": {"final_activation": "sigmoid"}}}, {})


def test_a_file_in_the_store_that_is_not_what_it_says_is_refused(shared):
    good = stored(shared, "firenet")
    assert preparation(good) == ("legacy", "none")
    lying = store.Stored(
        good.path, good.tensors, Properties("e2vid", "", stored(shared, "e2vid-bn").properties.values), "0"
    )
    with pytest.raises(InputError, match="not the weights of e2vid"):
        e2vid(lying, (48, 40))
    with pytest.raises(InputError, match="weights of e2vid, not of firenet"):
        firenet(lying, (48, 40))
    values = dict(good.properties.values, normalisation="median")
    with pytest.raises(InputError, match="median"):
        preparation(store.Stored(good.path, good.tensors, Properties("firenet", "", values), "0"))


def test_stored_names_are_those_that_engines_look_for():
    from engines import e2vid as big
    from engines import firenet as small

    usual = {(True, False): "", (False, True): "up", (True, True): "bn-up", (False, False): "tconv"}
    names = [store.name_of(Properties("e2vid", variant, {})) for variant in (*usual.values(), "plus")]
    assert sorted(names) == sorted(big.USUAL)
    assert big.USUAL[0] == weights.E2VID.published[0].name
    assert [each.name for each in weights.FIRENET.published] == list(small.USUAL)
