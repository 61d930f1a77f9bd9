"""Pickled data read as inert data: nothing in it is imported, looked up or called.

A pickle is a program for a small stack machine; this is such a machine that can do nothing but arrange data. Classes
and functions stay names (:class:`Global`), calling one gives a :class:`Record` of the call, and of PyTorch's functions
exactly those that describe a tensor are understood: they give a :class:`Tensor`, which is a description too.
Dictionaries become a :class:`Table`, a list of pairs, so that no key from a file is ever hashed. Lengths are checked
against what is there, the number of steps is bounded, every step costs no more than the bytes it takes, and nothing is
recursive: a hostile file can waste neither time nor memory beyond its own size.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from rtpipe.errors import FormatError
from rtpipe.weights.words import shown

MOST_STEPS = 2_000_000
MOST_MEMOS = 1 << 24
LONGEST_LINE = 4096
LONGEST_NUMBER = 64


@dataclass(frozen=True, eq=False, slots=True)
class Global:
    """The name of a class or function that was pickled."""

    module: str
    name: str


@dataclass(eq=False, slots=True)
class Table:
    """A dictionary as its pairs, in their order; :meth:`entries` checks that they are pairs."""

    pairs: list[Any] = field(default_factory=list)

    def entries(self) -> Iterator[tuple[Any, Any]]:
        """Keys and values. Raises ``FormatError`` where something stands that is no pair."""
        for pair in self.pairs:
            if not isinstance(pair, list | tuple) or len(pair) != 2:
                raise FormatError("a dictionary that is not made of pairs")
            yield pair[0], pair[1]


@dataclass(eq=False, slots=True)
class Record:
    """An object of a class that means nothing here: which class, what it was to be made from, and its state."""

    of: Global
    args: tuple[Any, ...] = ()
    state: Any = None
    items: list[Any] = field(default_factory=list)
    pairs: list[tuple[Any, Any]] = field(default_factory=list)


@dataclass(frozen=True, eq=False, slots=True)
class Storage:
    """Numbers kept outside the pickle: under which ``key``, of which ``kind`` (``"Float"``), how many, and at which
    element a view begins."""

    key: str
    kind: str
    length: int
    start: int = 0


@dataclass(frozen=True, eq=False, slots=True)
class Tensor:
    """A tensor as it was described, unchecked against its storage: ``offset`` and ``strides`` in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


SIZED = {
    ord("X"): ("<I", "text"), 0x8C: ("<B", "text"), 0x8D: ("<Q", "text"),
    ord("T"): ("<i", "either"), ord("U"): ("<B", "either"),
    ord("B"): ("<I", "bytes"), ord("C"): ("<B", "bytes"), 0x8E: ("<Q", "bytes"), 0x96: ("<Q", "bytes"),
    0x8A: ("<B", "number"), 0x8B: ("<i", "number"),
}  # fmt: skip
"""Opcodes that are followed by a length and as many bytes."""

PACKED = {ord("J"): "<i", ord("K"): "<B", ord("M"): "<H", ord("G"): ">d"}
CONSTANTS = {ord("N"): None, 0x88: True, 0x89: False, ord(")"): ()}
CONTAINERS = {ord("]"): list, ord("}"): Table, 0x8F: list}
LINES = frozenset(b"ILFSV")
PUTS = {ord("q"): "<B", ord("r"): "<I"}
GETS = {ord("h"): "<B", ord("j"): "<I"}
EXTENSIONS = {0x82: "<B", 0x83: "<H", 0x84: "<i"}
SHORT_TUPLES = {0x85: 1, 0x86: 2, 0x87: 3}
FROM_MARK = {ord("t"): tuple, ord("l"): list, 0x91: list}


def read(data: bytes, position: int = 0, kinds: dict[str, str] | None = None) -> tuple[Any, int]:
    """What the pickle at ``position`` describes, and where it ends; ``kinds`` is filled with the kind of each storage
    by its key. Raises ``FormatError`` naming the byte."""
    machine = _Machine(data, position, {} if kinds is None else kinds)
    try:
        return machine.run(), machine.at
    except FormatError as error:
        raise FormatError(f"byte {machine.step_at} of {len(data)}: {error}") from error
    except (IndexError, struct.error, UnicodeError, ValueError, OverflowError) as error:
        raise FormatError(f"byte {machine.step_at} of {len(data)}: the pickled data is damaged") from error


class _Machine:
    """The stack machine. ``at`` is the next byte, ``step_at`` the one where the step under way began."""

    def __init__(self, data: bytes, position: int, kinds: dict[str, str]) -> None:
        self.data = data
        self.kinds = kinds
        self.at = self.step_at = position
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        for _ in range(MOST_STEPS):
            self.step_at = self.at
            code = self._bytes(1)[0]
            if code == ord("."):
                return self.stack.pop()
            self._step(code)
        raise FormatError(f"more than {MOST_STEPS} steps of pickled data: no checkpoint")

    def _step(self, code: int) -> None:
        push = self.stack.append
        if code in CONSTANTS:
            push(CONSTANTS[code])
        elif code in CONTAINERS:
            push(CONTAINERS[code]())
        elif code in PACKED:
            push(self._packed(PACKED[code]))
        elif code in SIZED:
            push(self._sized(*SIZED[code]))
        elif code in LINES:
            push(_from_line(code, self._line()))
        elif code in PUTS:
            self._remember(self._packed(PUTS[code]))
        elif code in GETS:
            push(self._recall(self._packed(GETS[code])))
        elif code in SHORT_TUPLES:
            push(tuple(self._popped(SHORT_TUPLES[code])))
        elif code in FROM_MARK:
            items = self._from_mark()
            self.stack.append(FROM_MARK[code](items))
        elif code in EXTENSIONS:
            push(Global("copyreg", f"extension {self._packed(EXTENSIONS[code])}"))
        else:
            self._rare(chr(code))

    def _rare(self, code: str) -> None:
        match code:
            case "(":
                self.below.append(self.stack)
                self.stack = []
            case "\x80":
                if self._packed("<B") > 5:
                    raise FormatError("pickled by a protocol that does not exist yet")
            case "\x95":
                if self._packed("<Q") > len(self.data) - self.at:
                    raise FormatError("the pickled data ends too early")
            case "\x94":
                self._remember(len(self.memo))
            case "p":
                self._remember(_number(self._line()))
            case "g":
                self.stack.append(self._recall(_number(self._line())))
            case "0":
                if self.stack:
                    self.stack.pop()
                else:
                    self._from_mark()
            case "1":
                self._from_mark()
            case "2":
                self.stack.append(self.stack[-1])
            case "a":
                self._extend([self.stack.pop()])
            case "e" | "\x90":
                self._extend(self._from_mark())
            case "s":
                self._set(self._popped(2))
            case "u":
                self._set(self._from_mark())
            case "d":
                items = self._from_mark()
                self.stack.append(Table())
                self._set(items)
            case _:
                self._objects(code)

    def _objects(self, code: str) -> None:
        """The steps that make objects, here records of what was to be made."""
        match code:
            case "c":
                self.stack.append(Global(self._line(), self._line()))
            case "\x93":
                module, name = self._popped(2)
                self.stack.append(Global(_text(module), _text(name)))
            case "i":
                of = Global(self._line(), self._line())
                args = tuple(self._from_mark())
                self.stack.append(_made(of, args))
            case "o":
                of, *rest = self._from_mark()
                self.stack.append(_made(of, tuple(rest)))
            case "R" | "\x81":
                self.stack.append(_made(*self._popped(2)))
            case "\x92":
                of, args, _ = self._popped(3)
                self.stack.append(_made(of, args))
            case "b":
                state = self.stack.pop()
                if isinstance(self.stack[-1], Record):
                    self.stack[-1].state = state
                elif not isinstance(self.stack[-1], (Table, Tensor)):
                    raise FormatError("a state for what can have none")
            case "P":
                raise FormatError("refers to data outside in a way that no checkpoint does")
            case "Q":
                found = _outside(self.stack.pop())
                if isinstance(found, Storage) and self.kinds.setdefault(found.key, found.kind) != found.kind:
                    raise FormatError("one storage of two kinds")
                self.stack.append(found)
            case _:
                raise FormatError(f"{shown(code)} is no step of pickled data that a checkpoint has")

    def _bytes(self, count: int) -> bytes:
        if not 0 <= count <= len(self.data) - self.at:
            raise FormatError("the pickled data ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def _packed(self, layout: str) -> Any:
        return struct.unpack(layout, self._bytes(struct.calcsize(layout)))[0]

    def _sized(self, layout: str, kind: str) -> Any:
        length = self._packed(layout)
        if kind == "number" and length > LONGEST_NUMBER:
            raise FormatError("a number longer than any that means something")
        piece = self._bytes(length)
        if kind == "number":
            return int.from_bytes(piece, "little", signed=True)
        if kind == "bytes":
            return piece
        return piece.decode("utf-8", "surrogatepass" if kind == "text" else "replace")

    def _line(self) -> str:
        end = self.data.find(b"\n", self.at, self.at + LONGEST_LINE)
        if end < 0:
            raise FormatError("a line of the pickled data does not end")
        return self._bytes(end + 1 - self.at)[:-1].decode("utf-8")

    def _popped(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise FormatError("the pickled data takes more than it put down")
        taken = self.stack[-count:]
        del self.stack[-count:]
        return taken

    def _from_mark(self) -> list[Any]:
        taken = self.stack
        self.stack = self.below.pop()
        return taken

    def _remember(self, index: int) -> None:
        if not 0 <= index < MOST_MEMOS:
            raise FormatError("remembers under a number that no checkpoint needs")
        self.memo[index] = self.stack[-1]

    def _recall(self, index: int) -> Any:
        if index not in self.memo:
            raise FormatError("recalls what was never remembered")
        return self.memo[index]

    def _extend(self, items: Sequence[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, Record):
            target.items.extend(items)
        else:
            raise FormatError("appends to what is no list")

    def _set(self, flat: Sequence[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, Table | Record) or len(flat) % 2:
            raise FormatError("sets keys of what is no dictionary")
        target.pairs.extend(zip(flat[::2], flat[1::2], strict=True))


def _number(line: str) -> int:
    if len(line) > LONGEST_NUMBER:
        raise FormatError("a number longer than any that means something")
    return int(line.removesuffix("L"))


def _from_line(code: int, line: str) -> Any:
    match chr(code):
        case "I" if line in ("00", "01"):
            return line == "01"
        case "I" | "L":
            return _number(line)
        case "F":
            return float(line)
        case "V":
            return line.encode("utf-8").decode("raw-unicode-escape")
        case _:
            if len(line) < 2 or line[0] != line[-1] or line[0] not in "'\"":
                raise FormatError("a string that is not quoted")
            return codecs.escape_decode(line[1:-1].encode("utf-8"))[0].decode("utf-8", "replace")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise FormatError("a name that is no text")
    return value


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise FormatError("a size, stride or offset that is no whole number")
    return value


def _wholes(value: Any) -> tuple[int, ...]:
    if isinstance(value, Record) and value.of.name == "Size" and len(value.args) == 1:
        value = value.args[0]
    if not isinstance(value, tuple | list) or len(value) > 16:
        raise FormatError("a shape that is none")
    return tuple(_whole(each) for each in value)


def _made(of: Any, args: Any) -> Any:
    """What calling ``of`` would make, as data."""
    if not isinstance(args, tuple):
        raise FormatError("a call without arguments")
    while isinstance(of, Global) and of.name == "_rebuild_from_type_v2" and len(args) == 4:
        of, args = args[0], args[2] if isinstance(args[2], tuple) else ()
    if not isinstance(of, Global):
        return Record(Global("", "call"), (of, args))
    known = f"{of.module}.{of.name}"
    if known in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor"):
        if len(args) < 4 or not isinstance(args[0], Storage):
            raise FormatError("a tensor that is not described in full")
        return Tensor(args[0], _whole(args[1]), _wholes(args[2]), _wholes(args[3]))
    if known in ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"):
        if not args or not isinstance(args[0], Tensor):
            raise FormatError("a parameter without its tensor")
        return args[0]
    if known == "collections.OrderedDict":
        given = args[0] if args else []
        if not isinstance(given, list | Table):
            raise FormatError("a dictionary that is not made of pairs")
        return (
            Table(given) if isinstance(given, list) else given
        )  # not copied: a file could ask for that a million times
    return Record(of, args)


def _outside(reference: Any) -> Any:
    """The storage (or, in old files, the module) that a persistent id stands for."""
    if isinstance(reference, tuple) and len(reference) >= 2 and reference[0] == "module":
        return reference[1]
    if not isinstance(reference, tuple) or len(reference) not in (5, 6) or reference[0] != "storage":
        raise FormatError("refers to data outside in a way that no checkpoint does")
    _, kind, key, _, length, *view = reference
    if not isinstance(kind, Global) or kind.module not in ("torch", "torch.cuda", "torch.storage"):
        raise FormatError("numbers of a kind that PyTorch does not have")
    start = 0
    if view and view[0] is not None:
        if not isinstance(view[0], tuple) or len(view[0]) != 3:
            raise FormatError("a view of numbers that is not described in full")
        start = _whole(view[0][1])
    return Storage(_text(key), kind.name.removesuffix("Storage"), _whole(length), start)
