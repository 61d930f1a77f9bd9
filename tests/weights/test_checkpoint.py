"""Checkpoints hold, number for number, what PyTorch says; bombs and lies about shapes are refused."""

import contextlib
import hashlib
import json
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtpipe.errors import FormatError, InputError
from rtpipe.weights import checkpoint
from tests.weights import hostile
from tests.weights.read_damaged import packed

torch = pytest.importorskip("torch")


def same(ours: dict[str, np.ndarray[Any, Any]], theirs: dict[str, Any]) -> None:
    assert list(ours) == list(theirs)
    for name, tensor in theirs.items():
        wanted = tensor.detach().float().numpy() if tensor.dtype == torch.bfloat16 else tensor.detach().numpy()
        assert ours[name].dtype == wanted.dtype
        np.testing.assert_array_equal(ours[name], wanted)


@contextlib.contextmanager
def stubs() -> Iterator[list[Any]]:
    """A class for FireNet+'s pickled configuration, as the fact sheet's recipe has it."""
    module = types.ModuleType("parse_config")

    class ConfigParser:
        pass

    class PathStub(str):
        def __new__(cls, *parts: str) -> "PathStub":
            return str.__new__(cls, "/".join(parts))

    module.ConfigParser = ConfigParser  # type: ignore[attr-defined]
    sys.modules["parse_config"] = module
    try:
        yield [
            (ConfigParser, "parse_config.ConfigParser"),
            *((PathStub, f"pathlib{of}Path") for of in (".Posix", ".Windows", "._local.Posix")),
        ]
    finally:
        del sys.modules["parse_config"]


@pytest.mark.parametrize("name", ["FireNet.pth", "nernet_letc.pth"])
def test_published_checkpoints_are_what_pytorch_loads(name: str, shared: Callable[[str], Path]) -> None:
    path = shared(f"weights/{name}")
    found = checkpoint.read(path)
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    same(dict(found.tensors), theirs["state_dict"])
    assert (found.file, found.read_by) == (name, "rtpipe")
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    if "config" in theirs:
        assert found.config["config"] == json.loads(json.dumps(theirs["config"]))
        assert found.config["arch"] == theirs["arch"] == "FireNet"


def test_a_configuration_that_needs_a_class_is_plain_data(shared: Callable[[str], Path]) -> None:
    path = shared("weights/FireNetplus.pth")
    with pytest.raises(Exception, match="parse_config"):
        torch.load(path, map_location="cpu", weights_only=True)
    found = checkpoint.read(path)
    assert "parse_config" not in sys.modules
    with stubs() as allowed, torch.serialization.safe_globals(allowed):
        theirs = torch.load(path, map_location="cpu", weights_only=True)
    same(dict(found.tensors), theirs["state_dict"])
    assert found.config["config"]["_config"] == json.loads(json.dumps(theirs["config"]._config))


def strange() -> dict[str, Any]:
    """Tensors of every kind and layout that a state dict may hold."""
    base = torch.arange(60, dtype=torch.float32).reshape(3, 4, 5)
    tensors = {
        "transposed": base.permute(2, 0, 1),
        "part": base[1:, ::2, 3],
        "last": base[2],
        "scalar": torch.tensor(7.5),
        "channels_last": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "parameter": torch.nn.Parameter(torch.rand(3)),
        "bool": torch.tensor([True, False]),
    }
    for dtype in ("float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8"):
        tensors[dtype] = torch.arange(-3, 4).to(getattr(torch, dtype))
    return OrderedDict(tensors)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("key", [None, *checkpoint.STATES])
def test_what_pytorch_saves_is_read_back(zipped: bool, key: str | None, tmp_path: Path) -> None:
    tensors = strange()
    path = tmp_path / "saved.pth"
    rest = {"epoch": 3, "optimizer": {"state": {0: torch.rand(3)}}}
    torch.save(tensors if key is None else {**rest, key: tensors}, path, _use_new_zipfile_serialization=zipped)
    found = checkpoint.read(path)
    same(dict(found.tensors), tensors)
    assert found.config == ({} if key is None else {"epoch": 3})


def test_the_prefix_of_parallel_training_is_taken_off(tmp_path: Path) -> None:
    torch.save({"params": {"module.a": torch.zeros(2), "module.module.b": torch.zeros(3)}}, tmp_path / "p.pth")
    assert list(checkpoint.read(tmp_path / "p.pth").tensors) == ["a", "module.b"]


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_are_taken_from_beside_a_hostile_object(zipped: bool, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, (f"{tmp_path}/canary",)

    path = tmp_path / "saved.pth"
    torch.save({"state_dict": {"a": torch.ones(2)}, "config": Hostile()}, path, _use_new_zipfile_serialization=zipped)
    found = checkpoint.read(path)
    assert found.tensors["a"].tolist() == [1, 1]
    assert found.config == {"config": [f"{tmp_path}/canary"]}


def test_a_whole_network_that_was_pickled_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "network.pth")
    with pytest.raises(FormatError, match="code, not weights"):
        checkpoint.read(tmp_path / "network.pth")


def described(storage: int, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    """A description of one tensor in ``storage`` float32 numbers."""

    def number(value: int) -> bytes:
        raw = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
        return b"\x8a" + bytes([len(raw)]) + raw

    numbers = [b"(" + b"".join(map(number, values)) + b"t" for values in (shape, strides)]
    reference = (
        b"(" + hostile.text("storage") + b"ctorch\nFloatStorage\n" + hostile.text("0") + hostile.text("cpu") + b"%b"
    )
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + reference % number(storage) + b"tQ" + number(offset)
    return b"\x80\x02}" + hostile.text("a") + tensor + b"".join(numbers) + b"\x89NtRs."


@pytest.mark.parametrize(
    ("storage", "offset", "shape", "strides"),
    [
        (4, 0, (1 << 40,), (0,)),  # one number over and over
        (4, 0, (2, 4), (0, 1)),
        (4, 0, (0,), (1,)),
        (4, 0, (5,), (1,)),
        (4, 1, (4,), (1,)),
        (4, 0, (2, 2), (3, 1)),
        (5, 0, (5,), (1,)),  # the storage is said to be longer than it is
        (4, -1, (2,), (1,)),
        (4, 2, (2,), (-1,)),
        (4, 0, (2,), (1, 1)),
        (4, 0, (0, 1 << 60), (1, 1)),
        (4, 1 << 61, (1,), (1,)),
        (4, 0, (1,) * 40, (1,) * 40),
        (4, 0, (1 << 31, 1 << 31, 4), (0, 0, 1)),
    ],
)
def test_shapes_that_lie_are_refused(
    storage: int, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], tmp_path: Path
) -> None:
    path = tmp_path / "lie.pth"
    path.write_bytes(packed(described(storage, offset, shape, strides), {"data/0": bytes(16)}))
    with pytest.raises(FormatError):
        checkpoint.read(path)


def test_shapes_that_do_not_lie_are_read(tmp_path: Path) -> None:
    values = np.arange(4, dtype="<f4")
    path = tmp_path / "good.pth"
    path.write_bytes(packed(described(4, 1, (1, 2), (7, 2)), {"data/0": values.tobytes()}))
    assert checkpoint.read(path).tensors["a"].tolist() == [[1, 3]]
    path.write_bytes(
        packed(described(4, 1, (1, 2), (7, 2)), {"data/0": values.astype(">f4").tobytes(), "byteorder": b"big"})
    )
    assert checkpoint.read(path).tensors["a"].tolist() == [[1, 3]]


def test_one_storage_given_out_again_and_again_is_refused(tmp_path: Path) -> None:
    one = described(4, 0, (4,), (1,))
    tensor = one[one.index(b"ctorch._utils") : -2]
    many = b"".join(hostile.text(str(k)) + (tensor + b"q\1" if k == 0 else b"h\1") for k in range(10_000))
    (tmp_path / "many.pth").write_bytes(packed(b"\x80\x02}(" + many + b"u.", {"data/0": bytes(16)}))
    checkpoint.read(tmp_path / "many.pth")  # small ones are: the names weigh more
    one = described(40_000, 0, (40_000,), (1,))
    tensor = one[one.index(b"ctorch._utils") : -2]
    many = b"".join(hostile.text(str(k)) + (tensor + b"q\1" if k == 0 else b"h\1") for k in range(10_000))
    (tmp_path / "many.pth").write_bytes(packed(b"\x80\x02}(" + many + b"u.", {"data/0": bytes(160_000)}))
    with pytest.raises(FormatError, match="again and again"):
        checkpoint.read(tmp_path / "many.pth")


def test_compressed_members_and_wrong_checksums_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("archive/data.pkl", described(4, 0, (4,), (1,)))
        made.writestr("archive/data/0", bytes(1 << 20))
    with pytest.raises(FormatError, match="which PyTorch never does"):
        checkpoint.read(path)
    good = packed(described(4, 0, (4,), (1,)), {"data/0": b"0123456789abcdef"})
    path.write_bytes(good.replace(b"0123456789abcdef", b"0123456789abcdeF"))
    with pytest.raises(FormatError, match="CRC"):
        checkpoint.read(path)


def test_safetensors_and_npz_are_read(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([1, 2], np.int64)}
    save_file(arrays, tmp_path / "x.safetensors")
    np.savez(tmp_path / "x.npz", a=np.asfortranarray(arrays["a"]), b=arrays["b"])
    np.savez_compressed(tmp_path / "y.npz", **arrays)
    for name in ("x.safetensors", "x.npz", "y.npz"):
        found = checkpoint.read(tmp_path / name).tensors
        assert all(np.array_equal(found[key], array) for key, array in arrays.items())


def npz(path: Path, header: str, data: bytes = b"") -> Path:
    raw = header.encode().ljust(117) + b"\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(raw)) + raw + data)
    return path


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,)}", b"1234"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", b"1234"),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"cos\nsystem\n."),
        ("{'descr': '<U4', 'fortran_order': False, 'shape': (1,)}", bytes(16)),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", b""),
        ("print('x')", b""),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (1048576,)}", bytes(1 << 22)),
    ],
)
def test_npz_files_that_lie_or_burst_are_refused(header: str, data: bytes, tmp_path: Path) -> None:
    with pytest.raises(FormatError):
        checkpoint.read(npz(tmp_path / "x.npz", header, data))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"PK\3\4",
        (1 << 40).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"{}",
        (100).to_bytes(8, "little")
        + b'{"a":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,4]}}'.ljust(104),
        b"\x89HDF\r\n\x1a\n",
    ],
)
def test_files_that_are_no_checkpoints_are_refused_by_name(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(data)
    with pytest.raises(FormatError, match=r"x\.pth"):
        checkpoint.read(path)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        checkpoint.read(tmp_path / "none.pth")
    with pytest.raises(InputError, match="directory"):
        checkpoint.read(tmp_path)


def test_what_our_code_does_not_know_goes_to_pytorchs_safe_loader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "complex.pth"
    torch.save({"state_dict": {"a": torch.ones(2)}, "epoch": 1}, path)
    monkeypatch.delitem(checkpoint.archive.KINDS, "Float")  # as if float32 were a kind of the future
    found = checkpoint.read(path)
    assert (found.read_by, found.tensors["a"].tolist(), found.config) == ("torch", [1, 1], {"epoch": 1})
    monkeypatch.setattr(checkpoint, "SAFE_TORCH", (99, 0))
    with pytest.raises(FormatError, match="not read here"):
        checkpoint.read(path)


def test_plain_data_is_bounded(tmp_path: Path) -> None:
    one = described(4, 0, (4,), (1,))
    state = hostile.text("state_dict") + one[2:-1] + b"s"
    endless = b"]q\1" + b"".join(b"0(" + b"h\1h\1lq\1" for _ in range(30))
    itself = b"]q\2h\2a"
    body = b"\x80\x02}" + state + hostile.text("config") + endless + b"s" + hostile.text("loop") + itself + b"s"
    whole = packed(body + hostile.text("epoch") + b"K\5s.", {"data/0": bytes(16)})
    (tmp_path / "x.pth").write_bytes(whole)
    found = checkpoint.read(tmp_path / "x.pth")
    assert found.config == {"epoch": 5}
