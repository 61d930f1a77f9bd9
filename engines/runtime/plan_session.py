"""A session over a built TensorRT engine: one step of the network after the other, states never leaving the GPU.

A step passes through three streams that events tie together: its inputs are copied up, it is computed, its outputs are
copied down. So the next step's inputs travel while this one is computed, and the host waits once, in ``end``. Two slots
of buffers alternate, and with them two sets of states: an even step reads set 0 and writes set 1, an odd one the other
way round. Each is captured as a CUDA graph; where the library refuses to be captured the same work is enqueued plainly,
and ``facts`` say why.

Written against the API of ``tensorrt`` 10.3 to 11 and ``tensorrt_rtx``, which the tests hold every call against. Not
run so far on a machine with a GPU: the tests run it on a CUDA driver and an engine of their own, on the CPU.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np

from engines.runtime.cuda import (
    MEGABYTE,
    CapturedGraph,
    Context,
    CudaError,
    DeviceMemory,
    Event,
    PinnedArray,
    Stream,
)
from engines.runtime.device_inputs import Given, given
from engines.runtime.exported import next_name
from engines.runtime.graph import Graph, Port
from rtpipe.errors import RtpipeError, WorldError
from rtpipe.types import Array

LOG = logging.getLogger(__name__)

DTYPES: Mapping[str, type[np.generic]] = {"fp32": np.float32, "fp16": np.float16}
"""Of the states, by precision; inputs and outputs are float32."""

MOST_UNDER_WAY = 2
"""Steps that may have begun and not ended: one slot of buffers each."""


class _Closed(Protocol):
    def close(self) -> None: ...


Thing = TypeVar("Thing", bound=_Closed)


def _nbytes(port: Port, dtype: type[np.generic] = np.float32) -> int:
    return int(np.prod(port.shape, dtype=np.int64)) * np.dtype(dtype).itemsize


def check(library: Any, engine: Any, graph: Graph, precision: str) -> None:
    """Raise ``WorldError`` where an engine's inputs and outputs are not the graph's in name, direction, type, shape,
    layout and place: its buffers are bound by address alone."""
    float32, states = library.DataType.FLOAT, {"fp32": library.DataType.FLOAT, "fp16": library.DataType.HALF}[precision]
    inward, outward = library.TensorIOMode.INPUT, library.TensorIOMode.OUTPUT
    wanted = {port.name: (inward, float32, port.shape) for port in graph.inputs}
    wanted |= {port.name: (outward, float32, port.shape) for port in graph.outputs}
    wanted |= {port.name: (inward, states, port.shape) for port in graph.states}
    wanted |= {next_name(port): (outward, states, port.shape) for port in graph.states}
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    if sorted(names) != sorted(wanted):
        raise WorldError(f"{graph.name}: the engine has {', '.join(names)}, the network {', '.join(wanted)}")
    for name, (mode, kind, shape) in wanted.items():
        found = engine.get_tensor_mode(name), engine.get_tensor_dtype(name), tuple(engine.get_tensor_shape(name))
        if found != (mode, kind, shape):
            told = [" ".join(str(each) for each in one) for one in (found, (mode, kind, shape))]
            raise WorldError(f"{graph.name}: the engine's {name} is {told[0]}, the network's {told[1]}")
        if engine.get_tensor_location(name) != library.TensorLocation.DEVICE:
            raise WorldError(f"{graph.name}: the engine wants {name} in the host's memory")
        if engine.get_tensor_format(name) != library.TensorFormat.LINEAR:
            raise WorldError(f"{graph.name}: the engine wants {name} in another layout than rows of pixels")


class _Slot:
    """The buffers of every other step, and the events between its parts."""

    def __init__(self, own: Callable[[Any], Any], context: Context, graph: Graph) -> None:
        def ports(group: Sequence[Port]) -> list[tuple[DeviceMemory, PinnedArray]]:
            return [
                (own(DeviceMemory(context, _nbytes(port))), own(PinnedArray(port.shape, np.float32))) for port in group
            ]

        self.inputs, self.outputs = ports(graph.inputs), ports(graph.outputs)
        self.produced, self.uploaded, self.computed, self.downloaded = (own(Event(context)) for _ in range(4))
        self.bound: list[tuple[str, int]] = []
        self.captured: CapturedGraph | None = None
        self.held: Sequence[Any] = ()


class Executing:
    """A built engine, ready to run; see :class:`engines.runtime.graph.Session`.

    Beside ``run`` there are ``begin`` and ``end``, for a caller who has the next window while this one is computed. Not
    thread-safe, but the thread that calls may change. After a failure of the GPU all but ``close`` raises
    ``WorldError``.
    """

    def __init__(self, library: Any, engine: Any, graph: Graph, precision: str, *, context: Any = None) -> None:
        """Take buffers, run, capture, run again; states are zero then. Blocks: milliseconds to a second.

        ``library`` is the module, ``engine`` its ``ICudaEngine`` with inputs and outputs in float32 and states in
        ``precision``; ``context`` an ``IExecutionContext`` of it, where the caller made one with settings of its own.
        The session owns both from here on. Raises ``WorldError`` for an engine that is not this graph's, and where the
        GPU fails or has too little memory (:class:`engines.runtime.cuda.OutOfMemory`): all is given back then.
        """
        self._graph, self._engine, self._execution = graph, engine, context
        self._at, self._under_way, self._stopped = 0, 0, ""
        with ExitStack() as owned:
            self._context = Context()
            owned.callback(self._context.close)
            owned.callback(self._release)
            with self._context:
                check(library, engine, graph, precision)
                self._allocate(owned, DTYPES[precision])
                reason = self._warm(owned)
                self.facts = self._facts(reason)
            self._owned = owned.pop_all()

    def _allocate(self, owned: ExitStack, states: type[np.generic]) -> None:
        def own(thing: Thing) -> Thing:
            owned.callback(thing.close)
            return thing

        graph, context = self._graph, self._context
        self._states = [
            [own(DeviceMemory(context, _nbytes(port, states))) for port in graph.states] for _ in range(MOST_UNDER_WAY)
        ]
        self._slots = [_Slot(own, context, graph) for _ in range(MOST_UNDER_WAY)]
        self._up, self._compute, self._down = (own(Stream(context)) for _ in range(3))
        owned.callback(self._release)
        owned.callback(self._drain)
        for slot, now, then in zip(self._slots, self._states, reversed(self._states), strict=True):
            slot.bound = [
                (port.name, memory.address) for port, (memory, _) in zip(graph.inputs, slot.inputs, strict=True)
            ]
            slot.bound += [
                (port.name, memory.address) for port, (memory, _) in zip(graph.outputs, slot.outputs, strict=True)
            ]
            for port, old, new in zip(graph.states, now, then, strict=True):
                slot.bound += [(port.name, old.address), (next_name(port), new.address)]
            for memory in (*now, *(memory for memory, _ in slot.inputs)):
                self._compute.zero(memory)

    def _warm(self, owned: ExitStack) -> str:
        """Run each slot's step plainly (libraries make what they need at the first), capture both, run both as they
        will be; returns why they could not be captured, if so."""
        if self._execution is None:
            self._execution = self._engine.create_execution_context()
        if self._execution is None:
            free = self._context.free_bytes() / MEGABYTE
            raise WorldError(
                f"{self._graph.name}: TensorRT could not load the network onto the GPU, which has {free:.0f} MB free"
            )
        for slot in self._slots:
            self._enqueue(slot)
        self._compute.synchronize()
        reason = self._capture(owned)
        for _ in self._slots:
            self.run(self.staging())
        self.reset()
        self._compute.synchronize()
        return reason

    def _capture(self, owned: ExitStack) -> str:
        capturable = getattr(self._execution, "is_stream_capturable", None)  # tensorrt_rtx compiles kernels as it runs
        if capturable is not None and not capturable(self._compute.handle.value):
            return "the library cannot be captured with this network"
        try:
            for slot in self._slots:
                slot.captured = CapturedGraph(self._context, self._compute, partial(self._enqueue, slot))
                owned.callback(slot.captured.close)
        except (WorldError, RuntimeError) as error:
            for slot in self._slots:
                slot.captured = None
            return str(error)[:200]
        owned.callback(self._drain)  # before they are closed
        return ""

    def _facts(self, reason: str) -> Mapping[str, str]:
        taken = sum(memory.nbytes for slot in self._slots for memory, _ in (*slot.inputs, *slot.outputs))
        taken += sum(memory.nbytes for one in self._states for memory in one)
        taken += int(self._engine.device_memory_size_v2)
        return {
            "gpu": self._context.gpu.name,
            "launches": f"plain ({reason})" if reason else "CUDA graph",
            "MB of buffers": f"{taken / MEGABYTE:.0f}",
        }

    def _enqueue(self, slot: _Slot) -> None:
        """The slot's step into the compute stream. Addresses count when it is enqueued: steps under way keep theirs."""
        for name, address in slot.bound:
            if not self._execution.set_tensor_address(name, address):
                raise WorldError(f"{self._graph.name}: TensorRT refused the address of {name}")
        if not self._execution.execute_async_v3(self._compute.handle.value):
            raise WorldError(f"{self._graph.name}: TensorRT could not start the network; its messages say why")

    def staging(self) -> Sequence[Array]:
        """Pinned float32 arrays, one for each input, that the next :meth:`begin` takes without copying them first: to
        be filled and passed before anything else is begun."""
        self._usable()
        return [pinned.array for _, pinned in self._slots[self._at].inputs]

    def begin(self, inputs: Sequence[Any]) -> None:
        """Enqueue one step and return while it is under way; at most two may be.

        Each input is float32, C-contiguous, of its port's shape: a NumPy array, or anything on this GPU that has
        ``__cuda_array_interface__`` (:mod:`engines.runtime.device_inputs`), which is copied in order with the stream it
        was written in: it may be written to again, in that stream, at once. A NumPy array too may be written to when
        this returns, unless it lies in pinned memory: that is read where it lies, until :meth:`end`.

        Raises ``ValueError`` for inputs that do not fit, and nothing has begun then; ``RuntimeError`` where two steps
        are under way; ``WorldError`` where the GPU fails.
        """
        self._usable()
        if self._under_way == MOST_UNDER_WAY:
            raise RuntimeError("two steps are under way: end one first")
        if len(inputs) != len(self._graph.inputs):
            raise ValueError(f"{len(self._graph.inputs)} inputs wanted, got {len(inputs)}")
        slot = self._slots[self._at]
        with self._context:
            taken = [given(port, one, self._context) for port, one in zip(self._graph.inputs, inputs, strict=True)]
            with self._stopping():
                self._upload(slot, taken)
                slot.held = tuple(inputs)
                self._compute.wait(slot.uploaded)
                if slot.captured is not None:
                    slot.captured.launch(self._compute)
                else:
                    self._enqueue(slot)
                slot.computed.record(self._compute)
                self._down.wait(slot.computed)
                for memory, pinned in slot.outputs:
                    self._down.download(pinned.address, memory.address, memory.nbytes)
                slot.downloaded.record(self._down)
                self._at = 1 - self._at
                self._under_way += 1

    def _upload(self, slot: _Slot, taken: Sequence[Given]) -> None:
        """No wait is needed before: the slot's last step has ended."""
        producers = {one.producer for one in taken if one.producer is not None}
        for producer in producers:
            slot.produced.record(producer)
            self._up.wait(slot.produced)
        for (memory, pinned), one in zip(slot.inputs, taken, strict=True):
            if one.on_gpu:
                self._up.copy(memory.address, one.address, memory.nbytes)
                continue
            if one.array is not None:
                np.copyto(pinned.array, one.array)
            self._up.upload(memory.address, pinned.address if one.array is not None else one.address, memory.nbytes)
        slot.uploaded.record(self._up)
        for producer in producers:
            slot.uploaded.hold_back(producer)

    def end(self) -> Sequence[Array]:
        """The outputs of the step that began first of those under way. Blocks until they are there.

        They are float32 views of pinned memory that the step after the next writes to: valid until it begins (for
        :meth:`run`: until the next call but one), and never torn away: they outlive :meth:`close`. Raises
        ``RuntimeError`` where no step is under way and ``WorldError`` where the GPU failed.
        """
        self._usable()
        if not self._under_way:
            raise RuntimeError("no step is under way: begin one first")
        slot = self._slots[(self._at - self._under_way) % MOST_UNDER_WAY]
        with self._stopping():
            slot.downloaded.synchronize()
            self._under_way -= 1
            slot.held = ()
        return [pinned.array for _, pinned in slot.outputs]

    def run(self, inputs: Sequence[Any]) -> Sequence[Array]:
        """One step: :meth:`begin` and :meth:`end`. Raises ``RuntimeError`` where others are under way."""
        if self._under_way and not self._stopped:
            raise RuntimeError("steps are under way: end them first")
        self.begin(inputs)
        return self.end()

    def reset(self) -> None:
        """States are zero for the steps that begin after this; those under way keep theirs. Does not block."""
        self._usable()
        with self._stopping(), self._context:
            for memory in self._states[self._at]:
                self._compute.zero(memory)

    def _usable(self) -> None:
        if self._stopped:
            raise WorldError(self._stopped)

    @contextlib.contextmanager
    def _stopping(self) -> Iterator[None]:
        """A step that was enqueued in part leaves nothing to rely on."""
        try:
            yield
        except BaseException as error:
            said = str(error) if isinstance(error, RtpipeError) else type(error).__name__
            self._stopped = f"the session has failed and must be closed: {said}"
            raise

    def close(self) -> None:
        """Wait for what is under way, give all memory of the GPU back. May be called twice, from any thread."""
        self._stopped = "the session is closed"
        self._owned.close()

    def _drain(self) -> None:
        for stream in (self._up, self._compute, self._down):
            try:
                stream.synchronize()
            except CudaError as error:
                LOG.debug("closing: %s", error)

    def _release(self) -> None:
        """The library's objects go while the context is there."""
        with contextlib.suppress(CudaError), self._context:
            self._execution = None
            self._engine = None
        self._execution = self._engine = None
