"""Pickled data that runs code where it is really unpickled, written byte by byte, and data that grows without end."""

import struct
import sys
from pathlib import Path

STOP = b"."


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def touches(canary: Path) -> dict[str, bytes]:
    """By the step that is abused: data that creates the file ``canary`` when Python's own unpickler reads it."""
    shell = f"touch {canary}"
    code = f"open({str(canary)!r}, 'w').close()"
    system = b"cos\nsystem\n"
    reduce = system + text(shell) + b"\x85R"
    return {
        "reduce": reduce + STOP,
        "reduce by eval": b"c__builtin__\neval\n" + text(code) + b"\x85R" + STOP,
        "protocol 4": b"\x80\x04" + text("posix") + text("system") + b"\x93" + text(shell) + b"\x85R" + STOP,
        "inst": b"(" + text(shell) + b"ios\nsystem\n" + STOP,
        "obj": b"(" + system + text(shell) + b"o" + STOP,
        "newobj": b"\x80\x02cbuiltins\nlist\ncbuiltins\nmap\ncbuiltins\neval\n]"
        + text(code) + b"a\x86\x81\x85R" + STOP,
        "build with a state": b"\x80\x02cfunctools\npartial\ncos\ngetcwd\n\x85R("
        + system + text(shell) + b"\x85}Ntb)R" + STOP,
        "imported by name": b"cbuiltins\ngetattr\ncimportlib\nimport_module\n"
        + text("os") + b"\x85R" + text("system") + b"\x86R" + text(shell) + b"\x85R" + STOP,
        "within a state dict": b"\x80\x02}" + text("state_dict") + b"]" + reduce + b"as" + STOP,
        "within a tensor": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + reduce + b"K\0))tR" + STOP,
        "before the magic number": reduce + b"0\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.",
    }  # fmt: skip


def endless() -> dict[str, bytes]:
    """Data that would take time or memory without end, or that refers to what is not there."""
    double = b"".join(b"q" + bytes([k]) + b"0(" + b"h" + bytes([k]) + b"h" + bytes([k]) + b"t" for k in range(60))
    deep = 300_000
    return {
        "doubled sixty times": b"\x80\x02}" + text("config") + b"]" + double + b"s" + STOP,
        "nested lists": b"]" * deep + b"a" * (deep - 1) + STOP,
        "nested tuples": b"N" + b"\x85" * deep + STOP,
        "nested objects": b"N" + b"\x85" + b"q\0" + b"ca\nb\nh\0R\x85q\0" * 50_000 + STOP,
        "contains itself": b"\x80\x02}q\0" + text("config") + b"h\0s" + STOP,
        "nested types": b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\nq\0(NNNNtq\1"
        + b"0(h\0Nh\1Ntq\1" * 20_000 + b"0h\0h\1R" + STOP,
        "dictionary copied": b"\x80\x02](" + b"(NNt" * 20_000 + b"eq\0ccollections\nOrderedDict\nq\1"
        + b"0h\1h\0\x85R" * 100_000 + STOP,
        "memo far away": b"Nr\xff\xff\xff\xff" + STOP,
        "memo by line": b"Np999999999999999999999999\n" + STOP,
        "never remembered": b"h\7" + STOP,
        "long text": b"\x8d" + b"\xff" * 7 + b"\x7f" + STOP,
        "negative text": b"T\xff\xff\xff\xff" + STOP,
        "long number": b"\x8b" + struct.pack("<i", 1 << 30) + b"\xff" * 100 + STOP,
        "number of many digits": b"I" + b"9" * 4000 + b"\n" + STOP,
        "many steps": b"N0" * 2_000_000 + STOP,
        "extension": b"\x82\x01)R" + STOP,
        "takes too much": b"\x86" + STOP,
        "no mark": b"t" + STOP,
        "empty": b"",
        "never stops": b"N",
        "sets a number": b"K\1NNs" + STOP,
        "appends to nothing": b"Na" + STOP,
        "odd pairs": b"}(Nu" + STOP,
        "not pairs": b"ccollections\nOrderedDict\n](K\1K\2e\x85R" + STOP,
        "storage of no kind": b"(X\7\0\0\0storageca\nb\nX\1\0\0\0" + b"0NK\1tQ" + STOP,
    }  # fmt: skip


def main(folder: str) -> None:
    """Prove the data hostile: read each with what Python brings along, and say which made its file."""
    unpickle = __import__("pickle").loads  # by its name, since nothing here may import it: it is the enemy
    for kind in touches(Path()):
        canary = Path(folder) / kind.replace(" ", "-")
        try:
            unpickle(touches(canary)[kind])
        except Exception as error:
            print(f"{kind}: {error}", file=sys.stderr)
        if canary.exists():
            print(kind)


if __name__ == "__main__":
    main(sys.argv[1])
