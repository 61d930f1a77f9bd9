"""NER-Net against golden vectors: the network's numbers step by step, its pictures, its checkpoints, its exports."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.nernet.finish import finish
from engines.nernet.graph import KEEP_FLOAT32, STATES, graph
from engines.nernet.weights import NETWORK, representation_shapes, shapes
from engines.runtime import exported, onnxruntime
from engines.runtime import torch as torch_runtime
from rtpipe.errors import InputError, WorldError
from rtpipe.weights import importing, store
from tests.engines.nernet_golden import Shared, case, resolution, stored, tensors, voxel, write_checkpoint

torch = pytest.importorskip("torch")

from engines.nernet.network import NERNet, margins, state_shapes  # noqa: E402

CLOSE = 2e-5
EXACT_VOXEL = 1e-5
TABLE = 2e-4
"""How much a voxel from the table may differ, with golden weights and the few events of a pixel in these cases."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Others use the machine too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def network(shared: Shared) -> Any:
    made = NERNet().eval()
    made.load_state_dict({name: torch.from_numpy(array) for name, array in tensors(shared).items()})
    return made


def names_of(path: Path) -> list[tuple[str, str]]:
    lines = [line.split("\t") for line in path.read_text().splitlines() if not line.startswith("#")]
    return [(name, shape) for name, shape, _ in lines]


def test_tensors_have_the_published_names_and_shapes_in_order(shared: Shared) -> None:
    wanted = names_of(shared("networks/nernet_state_dict.txt"))
    assert [(name, str(tuple(tensor.shape))) for name, tensor in NERNet().state_dict().items()] == wanted
    assert [(name, str(shape)) for name, shape in shapes().items()] == wanted
    assert NETWORK.parameters() == sum(tensor.numel() for tensor in NERNet().parameters()) == 19_364_754


@pytest.mark.parametrize("name", ["nernet-a", "nernet-b"])
def test_every_step_gives_the_published_numbers(shared: Shared, network: Any, name: str) -> None:
    golden = case(shared, name)
    width, height = resolution(golden)
    kept: dict[str, Any] = {}
    parts = {
        "repcnn": network.representation, "gcb_e1": network.unetrecurrent.encoders[1].GCB,
        "res1": network.unetrecurrent.resblocks[1], "dec0": network.unetrecurrent.decoders[0],
    }  # fmt: skip
    hooks = [
        part.register_forward_hook(lambda _m, _i, out, key=key: kept.__setitem__(key, out))
        for key, part in parts.items()
    ]
    hooks.append(
        network.unetrecurrent.register_forward_pre_hook(lambda _m, given: kept.__setitem__("padded", given[0]))
    )
    state = None
    with torch.inference_mode():
        for step in range(3):
            t, x, y, p = (golden[f"in_{column}{step}"].astype(np.int64) for column in "txyp")
            tau = torch.from_numpy((t - t[0]) / (t[-1] - t[0]) * 4).float()
            columns = (torch.from_numpy(column) for column in (x, y, p))
            made = network.representation.quantization_layer(tau, *columns, height, width)
            assert np.abs(made.numpy() - golden[f"mid_vox{step}"][0]).max() < EXACT_VOXEL
            given = torch.from_numpy(golden[f"mid_vox{step}"])
            whole, _ = network(given, state, crop=False)
            image, state = network(given, state)
            assert np.abs(whole.numpy() - golden[f"out_image{step}"]).max() < CLOSE
            top, left = margins(height)[0], margins(width)[0]
            assert torch.equal(image, whole[..., top : top + height, left : left + width])
    for hook in hooks:
        hook.remove()
    for key in ("repcnn", "padded", "gcb_e1", "res1", "dec0"):
        wanted = golden.get(f"mid_{key}_2", golden.get(f"mid_{key}2"))
        if wanted is not None:
            assert np.abs(kept[key].numpy() - wanted).max() < CLOSE, key
    assert {f"mid_{key}_2" for key in ("gcb_e1", "res1", "dec0")} <= golden.keys()
    for label, tensor in zip(STATES, state or (), strict=True):
        assert np.abs(tensor.numpy() - golden[f"state_{label}"]).max() < CLOSE, label
    assert [tuple(tensor.shape[1:]) for tensor in state or ()] == list(state_shapes(height, width))


def test_pictures_are_cut_as_published(shared: Shared) -> None:
    golden = case(shared, "post-nernet")
    height, width = golden["out_u8"].shape
    picture = finish(golden["in_image"], (width, height))
    sure = ~golden["out_u8_slack"]
    assert np.array_equal(picture[sure], golden["out_u8"][sure])
    assert np.abs(picture.astype(int) - golden["out_u8"]).max() <= 1
    assert 0.5 < sure.mean() < 1


def test_padding_is_cut_off_where_the_network_puts_it() -> None:
    """85x59 in 88x64: three rows above and two below, two columns left and one right."""
    image = np.arange(64 * 88, dtype=np.float32).reshape(1, 1, 64, 88) % 251 / 255
    assert (margins(59), margins(85)) == ((3, 2), (2, 1))
    assert np.abs(finish(image, (85, 59)) - image[0, 0, 3:62, 2:87] * 255).max() < 1.001
    assert np.array_equal(finish(image, (85, 59)), finish(np.ascontiguousarray(image[..., 3:62, 2:87]), (85, 59)))


def test_pictures_of_what_is_no_number_are_refused() -> None:
    image = np.zeros((1, 1, 8, 8), np.float32)
    for bad in (np.nan, np.inf):
        image[0, 0, 3, 3] = bad
        with pytest.raises(WorldError, match="finite"):
            finish(image, (8, 8))
    with pytest.raises(InputError, match="9x8"):
        finish(image, (9, 8))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nernet-a", "nernet-b"])
def test_events_to_pictures_through_the_table_and_onnx_runtime(
    shared: Shared, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    golden = case(shared, name)
    size = resolution(golden)
    session = onnxruntime.open(graph(stored(shared), size), "cpu", "fp32", 1, lambda _: None)
    for step in range(3):
        grid = voxel(golden, step, stored(shared).tensors)
        assert np.abs(grid - golden[f"mid_vox{step}"][0]).max() < TABLE
        (image,) = session.run([np.ascontiguousarray(grid.transpose(1, 2, 0))])
        off = np.abs(finish(image, size).astype(int) - golden[f"out_u8_{step}"])
        assert off.max() <= 1
        assert (off > 0).mean() < 0.01
    session.close()


@pytest.mark.parametrize(("precision", "close"), [("fp32", 1e-5), pytest.param("fp16", 2e-2, marks=pytest.mark.slow)])
def test_exports_equal_pytorch_from_unequal_states(shared: Shared, precision: str, close: float) -> None:
    """Two steps from random states, each another: an export that takes one for another is seen."""
    import onnxruntime as ort

    made = graph(stored(shared), (45, 35))
    inference = ort.InferenceSession(exported.export(made, precision), providers=["CPUExecutionProvider"])
    module = torch_runtime.Typed(made, precision).eval()
    random = np.random.default_rng(8)
    states = [random.standard_normal(port.shape).astype(onnxruntime.DTYPES[precision]) * 0.5 for port in made.states]
    theirs = [torch.from_numpy(state.copy()) for state in states]
    names = [port.name for port in (*made.inputs, *made.states)]
    for _ in range(2):
        given = random.standard_normal(made.inputs[0].shape).astype(np.float32)
        image, *states = inference.run(None, dict(zip(names, (given, *states), strict=True)))
        with torch.inference_mode():
            wanted, *theirs = module(torch.from_numpy(given), *theirs)
        assert image.dtype == np.float32
        assert np.abs(image - wanted.numpy()).max() < close * max(1, np.abs(wanted.numpy()).max())
        for ours, other in zip(states, theirs, strict=True):
            assert ours.dtype == onnxruntime.DTYPES[precision]
            assert np.abs(ours.astype(np.float32) - other.float().numpy()).max() < close * max(
                1.0, float(other.abs().max())
            )
    if precision == "fp16":
        wide = {name for name, part in module.inner.named_parameters() if part.dtype == torch.float32}
        assert wide
        assert all(name.startswith(KEEP_FLOAT32) for name in wide)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_published_layout_is_imported(
    shared: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    monkeypatch.setenv("RTPIPE_WEIGHTS", str(tmp_path / "store"))
    given = tensors(shared)
    config = {"arch": {"args": {"unet_kwargs": {"skip_type": "sum", "norm": "none"}}}}
    done = importing.bring("nernet", write_checkpoint(tmp_path / "ner.pth", given, prefix, config=config), {})
    assert done.stored.path.stem == "nernet"
    again = store.load("nernet")
    assert all(np.array_equal(again.tensors[name], given[name]) for name in shapes())
    assert again.properties.values["representation"] == "calibrated_voxel"


def test_the_published_representation_is_imported_alone(
    shared: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RTPIPE_WEIGHTS", str(tmp_path))
    done = importing.bring("nernet", shared("weights/nernet_letc.pth"), {})
    assert done.stored.path.stem == "nernet-letc"
    assert done.stored.tensors.keys() == representation_shapes().keys()


def test_checkpoints_that_are_not_the_network_are_refused_by_name(shared: Shared) -> None:
    given = tensors(shared)
    cut = {name: array for name, array in given.items() if name != "unetrecurrent.pred.conv2d.bias"}
    with pytest.raises(InputError, match=r"missing: unetrecurrent\.pred\.conv2d\.bias"):
        NETWORK.recognise(cut, {}, {})
    with pytest.raises(InputError, match=r"skip_type 'concat'"):
        NETWORK.recognise(given, {"arch": {"args": {"unet_kwargs": {"skip_type": "concat"}}}}, {})
    with pytest.raises(InputError, match="no property 'mask'"):
        NETWORK.recognise(given, {}, {"mask": "yes"})


def test_operations_are_those_counted_by_hand() -> None:
    """The fact sheet's, padding included: 166, 550 and 1650 billion."""
    counted = [NETWORK.gflop(size) for size in ((346, 260), (640, 480), (1280, 720))]
    assert np.allclose(counted, [166, 550, 1650], rtol=5e-3)
    assert NETWORK.gflop((346, 260), "letc") == pytest.approx(2.1, rel=0.02)
