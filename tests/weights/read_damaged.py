"""Reads damaged and hostile checkpoints in a process of its own, which dies if anything in them has an effect.

``python -m tests.weights.read_damaged CHECKPOINT SEED FIRST LAST`` reads mutated copies, number k always the same;
``... hostile FOLDER`` every piece of :mod:`tests.weights.hostile`, bare and inside both layouts of PyTorch's files.
Python's own audit says when something is imported, run, opened for writing or sent: that, any exception but plain
words, more than ``MOST_MEMORY`` and more than ``LIMIT_S`` end the process. Prints the outcome as JSON.
"""

import encodings.cp437  # noqa: F401 how zip archives spell names: imported before the watch, as all that is needed
import io
import json
import os
import random
import resource
import signal
import sys
import tempfile
import zipfile
import zlib  # noqa: F401
from pathlib import Path

import safetensors.numpy  # noqa: F401

from rtpipe.errors import InputError
from rtpipe.weights import checkpoint
from tests.formats.read_mutated import mutated
from tests.weights.hostile import endless, touches

LIMIT_S = 20
MOST_MEMORY = 3 << 30
FORBIDDEN = (
    "exec",
    "compile",
    "os.",
    "subprocess.",
    "socket.",
    "ctypes.",
    "shutil.",
    "pty.",
    "webbrowser.",
    "marshal.",
)
OLDER = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}."
"""What stands in front of the description in PyTorch's older layout."""

watching = False


def watch(event: str, arguments: tuple[object, ...]) -> None:
    """Die where anything happens that reading data has no business with."""
    if not watching:
        return
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if event == "import" or event.startswith(FORBIDDEN) or writes:
        os.write(2, f"an effect: {event} {arguments}\n".encode())
        os._exit(99)


def attempt(path: Path) -> str:
    """Read a file under watch; ``"read"`` or ``"refused"``."""
    global watching
    signal.alarm(LIMIT_S)
    watching = True
    try:
        found = checkpoint.read(path)
    except InputError as error:
        watching = False
        said = str(error)
        assert str(path) in said, said
        assert "\n" not in said
        assert len(said) < 500, said
        return "refused"
    finally:
        watching = False
    assert found.tensors
    assert sum(array.nbytes for array in found.tensors.values()) <= 70 * path.stat().st_size
    json.dumps(found.config).encode()
    return "read"


def packed(description: bytes, storages: dict[str, bytes]) -> bytes:
    """PyTorch's zip layout with checksums that hold, so that damage comes further than to the zip reader."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("archive/data.pkl", description)
        for name, data in storages.items():
            made.writestr(f"archive/{name}", data)
    return file.getvalue()


def damaged(data: bytes, chance: random.Random) -> bytes:
    """A mutated copy; of a zip sometimes its members, packed again."""
    if data[:2] != b"PK" or chance.random() < 0.3:
        return mutated(data, chance)
    with zipfile.ZipFile(io.BytesIO(data)) as whole:
        inside = {name.partition("/")[2]: whole.read(name) for name in whole.namelist()}
    description = inside.pop("data.pkl")
    return packed(mutated(description, chance), inside)


def main(what: str, *rest: str) -> None:
    """See the module."""
    outcome = {"read": 0, "refused": 0}
    with tempfile.TemporaryDirectory() as folder:
        if what == "hostile":
            canary = Path(rest[0]) / "canary"
            inside = [whole for data in touches(canary).values() for whole in (data, OLDER + data + b"\x80\x02].")]
            inside += [packed(data, {}) for data in (touches(canary) | endless()).values()]
            path = Path(folder) / "hostile.pth"
            for whole in inside:
                path.write_bytes(whole)
                outcome[attempt(path)] += 1
        else:
            seed, first, last = rest
            original, path = Path(what), Path(folder) / "copy.pth"
            data = original.read_bytes()
            for k in range(int(first), int(last)):
                print("copy", k, file=sys.stderr, flush=True)
                path.write_bytes(damaged(data, random.Random(f"{seed} {k}")))
                outcome[attempt(path)] += 1
    print(json.dumps(outcome))


if __name__ == "__main__":
    checkpoint._by_torch = lambda path: None  # PyTorch's own reader is not what is tried here
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    sys.addaudithook(watch)
    main(*sys.argv[1:])
