"""EFNet against golden vectors: every number that the published network gives, with a mask and without one."""

import copy
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engines.efnet import weights  # noqa: E402
from engines.efnet.folded import Folded, FoldedTransformer  # noqa: E402
from engines.efnet.graph import efnet, loaded  # noqa: E402
from engines.efnet.network import EFNet, Transformer  # noqa: E402
from engines.runtime.torch import Typed  # noqa: E402
from tests.engines.efnet_golden import GOLDEN, GOPRO, case, relative, stored, tensors  # noqa: E402

torch.set_num_threads(1)  # two on a busy machine wait for one another

CLOSE = 2e-5
"""Parts of the range: also tells exact GELU from its tanh form, and the norms' 1e-5 from 1e-6."""

CASES = ("efnet-a-mask", "efnet-a-nomask", "efnet-b-mask", "efnet-b-nomask")

MIDDLE = {
    "mid_ev_level0_c8": "down_path_ev.0.conv_before_merge",
    "mid_ev_level2_c4": "down_path_ev.2.conv_before_merge",
    "mid_enc1_level0_c8": "down_path_1.0.image_event_transformer",
    "mid_enc1_level2_c4": "down_path_1.2.image_event_transformer",
    "mid_dec1_level1_c8": "up_path_1.0",
    "mid_sam_feature_c8": "sam12",
    "mid_enc2_level0_c8": "down_path_2.0.downsample",
    "mid_enc2_level1_c8": "down_path_2.1.downsample",
}
"""Where each stored activation is found; of a downsampling, what goes in."""


@pytest.fixture(scope="module")
def network(shared):
    return loaded(tensors(shared))


def given(golden):
    return [torch.from_numpy(golden[name]) for name in ("in_image", "in_event", "in_mask") if name in golden]


def second(network, *inputs):
    with torch.inference_mode():
        return network(*inputs)[-1].float().numpy()


@pytest.mark.parametrize("name", CASES)
def test_both_pictures_and_what_lies_between_are_the_published_networks(shared, network, name) -> None:
    golden, seen = case(shared, name), {}

    def keep(key, module, inputs, output):
        seen[key] = inputs[0] if "downsample" in module else output

    hooks = [
        network.get_submodule(module).register_forward_hook(
            lambda _, inputs, output, key=key, module=module: keep(key, module, inputs, output)
        )
        for key, module in MIDDLE.items()
    ]
    try:
        with torch.inference_mode():
            pictures = network(*given(golden))
    finally:
        for hook in hooks:
            hook.remove()
    for picture, expected in zip(pictures, ("out_1", "out_2"), strict=True):
        assert relative(picture, golden[expected]) < CLOSE
    assert MIDDLE.keys() == {key for key in golden if key.startswith("mid_")}
    for key, found in seen.items():
        found = found[0] if isinstance(found, tuple) else found
        assert relative(found[:, :: int(key[-1])], golden[key]) < CLOSE, key


def test_no_mask_is_not_a_mask_of_zeros(shared, network) -> None:
    image, event = given(case(shared, "efnet-a-nomask"))
    without = second(network, image, event)
    zeros = second(network, image, event, torch.zeros_like(image[:, :1]))
    assert np.abs(without - zeros).max() > 0.05 * np.ptp(without)


def test_tensors_are_named_and_shaped_as_published(shared) -> None:
    text = shared("networks/efnet_state_dict.txt").read_text(encoding="ascii")
    lines = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    listed = {name: tuple(int(n) for n in shape.strip("()").split(",") if n) for name, shape in lines}
    state = {name: tuple(tensor.shape) for name, tensor in EFNet().state_dict().items()}
    assert state == listed == weights.shapes()
    assert sum(p.numel() for p in EFNet().parameters()) == weights.NETWORK.parameters() == 8_466_445


@pytest.mark.parametrize(("width", "height"), [(62, 64), (64, 94)])
def test_sides_that_are_no_multiples_of_four_are_refused(network, width, height) -> None:
    with pytest.raises(ValueError, match=f"not {width}x{height}"):
        network(torch.zeros(1, 3, height, width), torch.zeros(1, 6, height, width))


@pytest.mark.parametrize("name", CASES)
def test_the_folded_form_is_the_same_function(shared, network, name) -> None:
    golden = case(shared, name)
    folded = Folded(copy.deepcopy(network), "in_mask" in golden)
    found = second(folded, *given(golden))
    assert relative(found, second(network, *given(golden))) < 1e-5
    assert relative(found, golden["out_2"]) < CLOSE


def test_folding_leaves_out_what_a_network_without_mask_never_uses(network) -> None:
    sizes = [sum(p.numel() for p in Folded(copy.deepcopy(network), mask).parameters()) for mask in (True, False)]
    assert sizes[0] - sizes[1] == sum(
        int(np.prod(shape)) for name, shape in weights.shapes().items() if ".emgc_" in name and name.endswith("weight")
    ) + sum(weights.WIDTHS[:-1])


@pytest.mark.parametrize("name", ["efnet-a-mask", pytest.param("efnet-b-nomask", marks=pytest.mark.slow)])
def test_half_precision_is_within_half_a_grey_level(shared, network, name) -> None:
    inputs = [one[..., 8:32, 16:48].contiguous() for one in given(case(shared, name))]
    values = GOPRO if len(inputs) == 3 else weights.HIGHREV
    half = Typed(efnet(stored(shared, values), (32, 24)), "fp16")
    assert {p.dtype for p in half.parameters()} == {torch.float16, torch.float32}
    expected = second(network, *inputs)
    assert np.abs(second(half, *inputs) - expected).max() < 0.5 / 255 * max(1.0, np.ptp(expected))


def test_half_precision_holds_what_is_summed_over_two_million_pixels(shared, network) -> None:
    """At 1632x1224 plain products of q and k go far beyond the largest half (65,504). Shown where it begins: on 20,000
    pixels whose features are alike, so that sums grow as fast as they can."""
    block: Transformer = network.down_path_1[0].image_event_transformer
    folded = FoldedTransformer(block)
    generator = torch.Generator().manual_seed(1)
    pattern = torch.randn(1, 64, 1, 1, generator=generator)
    image, event = (8 * pattern + torch.randn(1, 64, 100, 200, generator=generator) for _ in range(2))
    half = copy.deepcopy(folded).half()
    half.mixing.float()
    with torch.inference_mode():
        q, k = half.q(image.half() / 8).flatten(2), half.k(event.half() / 8).flatten(2)
        assert not (q @ k.transpose(1, 2)).isfinite().all()
        expected = block(image, event)
        assert relative(folded(image, event), expected.numpy()) < 1e-5
        found = half(image.half(), event.half()).float()
        assert found.isfinite().all()
        assert relative(found, expected.numpy()) < 4e-3
        alike = folded.alike(folded.q(image), folded.k(event))
        halved = half.alike(half.q(image.half()), half.k(event.half()))
    assert alike.abs().max() <= 1 + 1e-5
    assert (alike - halved).abs().max() < 4e-3


def test_the_golden_files_are_there(shared) -> None:
    assert len(list(Path(shared(GOLDEN)).glob("efnet-*.npz"))) == len(CASES)
