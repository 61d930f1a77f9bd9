"""ONNX files written by hand: a list of operations becomes the bytes that a runtime loads, without PyTorch or onnx.

An ONNX file is a protobuf message (onnx.proto of the ONNX specification); only the fields that a plain graph needs are
written: nodes in order, initializers as raw little-endian bytes, inputs and outputs with their fixed shapes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from rtpipe.types import Array

OPSET = 17
IR_VERSION = 8
"""The version of the file format that belongs to :data:`OPSET`."""

TYPES = {np.dtype(np.float32): 1, np.dtype(np.int64): 7, np.dtype(np.float16): 10}
"""ONNX's numbers of element types."""

DType: TypeAlias = "np.dtype[Any]"

Value: TypeAlias = int | float | str | Sequence[int]
"""Of an attribute."""

VARINT, LENGTH, FIXED32 = 0, 2, 5
"""Protobuf's wire types."""
INT, FLOAT, STRING, INTS = 2, 1, 3, 7
"""ONNX's numbers of attribute types."""


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # a negative number is written as its 64 bits
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | VARINT) + _varint(value)


def _block(field: int, data: bytes | str) -> bytes:
    data = data.encode() if isinstance(data, str) else data
    return _varint(field << 3 | LENGTH) + _varint(len(data)) + data


def _attribute(name: str, value: Value) -> bytes:
    if isinstance(value, int):
        data = _number(3, value) + _number(20, INT)
    elif isinstance(value, float):
        data = _varint(2 << 3 | FIXED32) + np.float32(value).tobytes() + _number(20, FLOAT)
    elif isinstance(value, str):
        data = _block(4, value) + _number(20, STRING)
    else:
        data = b"".join(_number(8, each) for each in value) + _number(20, INTS)
    return _block(1, name) + data


def _tensor(name: str, array: Array) -> bytes:
    array = np.ascontiguousarray(array)
    dims = b"".join(_number(1, side) for side in array.shape)
    data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return dims + _number(2, TYPES[array.dtype]) + _block(8, name) + _block(9, data)


def _port(name: str, shape: Sequence[int], dtype: DType) -> bytes:
    dims = b"".join(_block(1, _number(1, side)) for side in shape)
    return _block(1, name) + _block(2, _block(1, _number(1, TYPES[dtype]) + _block(2, dims)))


class Writer:
    """Collects one graph. Every operation returns the name of what it makes, to be given to the next; its node is named
    after the layer whose constants (``LAYER.weight``) it takes."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[bytes] = []
        self._constants: dict[str, bytes] = {}
        self._inputs: list[bytes] = []
        self._outputs: list[bytes] = []

    def input(self, name: str, shape: Sequence[int], dtype: DType) -> str:
        """Declare the next input."""
        self._inputs.append(_port(name, shape, dtype))
        return name

    def output(self, name: str, made: str, shape: Sequence[int], dtype: DType) -> None:
        """Declare the next output, ``name``: what the operation ``made`` gave."""
        self._nodes.append(_block(1, made) + _block(2, name) + _block(4, "Identity"))
        self._outputs.append(_port(name, shape, dtype))

    def constant(self, name: str, array: Array) -> str:
        """Numbers that belong to the graph: float32, float16 or int64. Of one name only the first are kept."""
        if name not in self._constants:
            self._constants[name] = _tensor(name, array)
        return name

    def add(self, operation: str, *inputs: str, **attributes: Value) -> str:
        """One operation with one result; an input left out in the middle is ``""``."""
        return self.several(1, operation, *inputs, **attributes)[0]

    def several(self, count: int, operation: str, *inputs: str, **attributes: Value) -> list[str]:
        """One operation with so many results."""
        made = [f"{operation}_{len(self._nodes)}_{index}" for index in range(count)]
        node = b"".join(_block(1, name) for name in inputs) + b"".join(_block(2, name) for name in made)
        layers = (name.rpartition(".")[0] for name in inputs if name in self._constants)
        layer = next(filter(None, layers), "")
        node += _block(3, f"{layer}/{operation}_{len(self._nodes)}") + _block(4, operation)
        self._nodes.append(node + b"".join(_block(5, _attribute(key, value)) for key, value in attributes.items()))
        return made

    def data(self, facts: Mapping[str, str]) -> bytes:
        """The file. ``facts``: its metadata."""
        graph = b"".join(_block(1, node) for node in self._nodes) + _block(2, self._name)
        graph += b"".join(_block(5, tensor) for tensor in self._constants.values())
        graph += b"".join(_block(11, port) for port in self._inputs)
        graph += b"".join(_block(12, port) for port in self._outputs)
        notes = b"".join(_block(14, _block(1, key) + _block(2, text)) for key, text in facts.items())
        return _number(1, IR_VERSION) + _block(2, "rtpipe") + _block(7, graph) + _block(8, _number(2, OPSET)) + notes
