"""Inputs that lie on the GPU or in pinned memory are taken where they lie, in order with whoever wrote them."""

import ctypes
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engines.runtime.cuda import Context, DeviceMemory, Event, PinnedArray, Stream
from engines.runtime.plan_session import Executing
from rtpipe.types import Array
from tests.engines.runtime.recurrent import stateless
from tests.engines.runtime.standin.gpu import Gpu
from tests.engines.runtime.standin.sessions import opened

SHAPE = (1, 2, 5, 7)
ONE = np.ones(SHAPE, np.float32)


class Producer:
    """Another library with an array on the GPU and a stream of its own that it writes in."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu, self.context = gpu, Context()
        self.memory = DeviceMemory(self.context, ONE.nbytes)
        self.pinned = PinnedArray(SHAPE, np.float32)
        self.stream, self.written = Stream(self.context), Event(self.context)

    def write(self, value: float, stream: Stream | None = None) -> None:
        """Later: not before the stream comes to it."""
        self.written.synchronize()
        self.pinned.array.fill(value)
        into = stream or self.stream
        into.upload(self.memory.address, self.pinned.address, self.memory.nbytes)
        self.written.record(into)

    def array(self, **facts: Any) -> Any:
        """As others see it."""
        told = {"shape": SHAPE, "typestr": "<f4", "data": (self.memory.address, False), "strides": None, "version": 3}
        return SimpleNamespace(__cuda_array_interface__={**told, "stream": self.stream.handle.value, **facts})

    def close(self) -> None:
        for one in (self.stream, self.written, self.memory, self.pinned, self.context):
            one.close()


@pytest.fixture
def producer(gpu: Gpu) -> Iterator[Producer]:
    made = Producer(gpu)
    yield made
    made.stream.synchronize()
    made.close()
    assert gpu.live == {}


@pytest.fixture
def session(producer: Producer) -> Iterator[Executing]:
    made = opened(stateless())
    yield made
    made.close()


def test_an_array_on_the_gpu_is_read_after_it_is_written_and_before_it_is_written_again(
    producer: Producer, session: Executing
) -> None:
    producer.gpu.library.standin_delay(2000)
    for value in (3, 5, 7):
        producer.write(value)
        session.begin([producer.array(), ONE])
        producer.write(-1)  # at once, in its own stream: what has begun must not see it
        total, difference = session.end()
        assert (total == value + 2).all()
        assert (difference == value - 1).all()


def test_the_host_never_waits_for_an_array_on_the_gpu(producer: Producer, session: Executing) -> None:
    producer.gpu.fail(-1)
    session.begin([producer.array(), ONE])
    assert [name for name in producer.gpu.calls if "Synchronize" in name] == []
    assert "cuMemcpyDtoDAsync_v2" in producer.gpu.calls
    session.end()


@pytest.mark.parametrize("facts", [{"stream": 1}, {"stream": None, "version": 2}], ids=["named", "unsaid"])
def test_the_default_stream_is_waited_for_where_no_other_is_named(
    producer: Producer, session: Executing, facts: dict[str, Any]
) -> None:
    producer.gpu.library.standin_delay(2000)
    default = Stream(producer.context)
    default.handle, own = ctypes.c_void_p(1), default.handle
    for value in (3, 5):
        producer.write(value, default)
        total, _ = session.run([producer.array(**facts), ONE])
        assert (total == value + 2).all()
    default.synchronize()
    default.handle = own
    default.close()


def test_an_array_that_says_nothing_is_under_way_waits_for_nothing(producer: Producer, session: Executing) -> None:
    producer.write(4)
    producer.stream.synchronize()
    producer.gpu.fail(-1)
    total, _ = session.run([producer.array(stream=None), ONE])
    assert (total == 6).all()
    assert producer.gpu.calls.count("cuStreamWaitEvent") == 2  # the session's own


def test_pytorchs_tensors_are_ordered_behind_pytorchs_current_stream(
    producer: Producer, session: Executing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their interface names no stream. A CPU build of PyTorch has none either, so that it is told one."""
    import torch

    producer.gpu.library.standin_delay(2000)
    current = SimpleNamespace(cuda_stream=producer.stream.handle.value)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current)
    facts = producer.array(stream=None, version=2).__cuda_array_interface__

    class Tensor(torch.Tensor):  # type: ignore[misc]
        __cuda_array_interface__ = property(lambda self: facts)

    for value in (3, 5):
        producer.write(value)
        total, _ = session.run([torch.zeros(1).as_subclass(Tensor), ONE])
        assert (total == value + 2).all()


def test_what_does_not_fit_on_the_gpu_is_refused_and_nothing_has_begun(producer: Producer, session: Executing) -> None:
    address = producer.memory.address
    wrong: dict[str, dict[str, Any]] = {
        "float64": {"typestr": "<f8"},
        "on a GPU": {"shape": (1, 2, 7, 5)},
        "C-contiguous": {"strides": (280, 140, 4, 20)},
        r"use .contiguous\(\)": {"strides": (280, 140, 28)},
        "stream 0 is ambiguous": {"stream": 0},
        "does not lie on the GPU": {"data": (ONE.ctypes.data, False)},
        "lie on the GPU that": {"data": (producer.pinned.address, False)},
        "not lie on": {"data": (0, False)},
    }
    for said, facts in wrong.items():
        with pytest.raises(ValueError, match=f"a: .*{said}"):
            session.run([producer.array(**facts), ONE])
    producer.gpu.library.standin_allocate_on(1)
    elsewhere = DeviceMemory(producer.context, ONE.nbytes)
    with pytest.raises(ValueError, match="does not lie on the GPU that the network runs on"):
        session.run([producer.array(data=(elsewhere.address, False)), ONE])
    elsewhere.close()
    producer.write(1)
    fits = producer.array(data=(address, True), strides=(12345, 140, 28, 4))  # a side of one has any stride
    assert (session.run([fits, ONE])[0] == 3).all()


def test_a_pinned_array_is_uploaded_from_where_it_lies(
    producer: Producer, session: Executing, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources: list[int] = []
    upload = Stream.upload

    def seen(self: Stream, target: int, source: int, nbytes: int) -> None:
        sources.append(source)
        upload(self, target, source, nbytes)

    monkeypatch.setattr(Stream, "upload", seen)
    pinned: Array = producer.pinned.array
    pinned.fill(4)
    assert (session.run([pinned, ONE])[0] == 6).all()
    staged = session.staging()
    for one in staged:
        one.fill(2)
    assert (session.run(staged)[0] == 6).all()
    assert sources[0] == producer.pinned.address
    assert sources[1] != ONE.ctypes.data
    assert sources[2:] == [one.ctypes.data for one in staged]


def test_staging_arrays_alternate_so_that_one_is_filled_while_the_other_travels(
    producer: Producer, session: Executing
) -> None:
    producer.gpu.library.standin_delay(2000)
    for value in range(6):
        staged = session.staging()
        for one in staged:
            one.fill(value)
        session.begin(staged)
        if value:
            assert (session.end()[0] == 3 * (value - 1)).all()
    session.end()


def test_what_is_read_where_it_lies_is_held_until_the_step_has_ended(producer: Producer, session: Executing) -> None:
    """PyTorch gives a tensor's memory to another as soon as nobody holds it."""
    producer.write(1)

    class Tensor:
        __cuda_array_interface__ = producer.array().__cuda_array_interface__

    given = Tensor()
    alive = weakref.ref(given)
    session.begin([given, ONE])
    del given
    assert alive() is not None
    session.end()
    assert alive() is None
