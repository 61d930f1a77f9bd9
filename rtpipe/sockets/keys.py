"""CURVE keys as files: this machine's own pair, and the public keys of the machines that it knows by name.

In ``XDG_CONFIG_HOME/rtpipe/keys``: ``own.key`` (public), ``own.key_secret`` (both halves, readable by its owner alone)
and one ``NAME.key`` per known machine, all in the layout of ZeroMQ's certificates, which others' tools read too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import zmq
from zmq.utils import z85

from rtpipe import whole_file
from rtpipe.errors import InputError, WorldError
from rtpipe.sockets.curve import CurveClient, CurveServer

OWN = "own"
PUBLIC, SECRET = ".key", ".key_secret"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LINE = re.compile(r'^\s*(public|secret)-key\s*=\s*"([^"]*)"\s*$', re.MULTILINE)
MAX_FILE = 1 << 16


@dataclass(frozen=True, slots=True)
class Known:
    """A machine that is known: its name here, and its public key (Z85, 40 characters)."""

    name: str
    public: bytes


def directory() -> Path:
    """Where the keys lie."""
    config = os.environ.get("XDG_CONFIG_HOME")
    return (Path(config) if config else Path.home() / ".config") / "rtpipe" / "keys"


def make(*, overwrite: bool = False) -> tuple[Known, bool]:
    """This machine's own pair, made where there is none; with ``overwrite`` a new one takes the old one's place, and
    whoever knew the old key must be told. Returns it, and whether it was made now. Raises ``WorldError``."""
    if not overwrite and (directory() / f"{OWN}{SECRET}").exists():
        public, _ = _own()
        return Known(OWN, public), False
    public, secret = zmq.curve_keypair()
    while public.startswith(b"-"):  # a command line would take it for an option
        public, secret = zmq.curve_keypair()
    text = f'metadata\ncurve\n    public-key = "{public.decode()}"\n'
    _write(directory() / f"{OWN}{SECRET}", f'{text}    secret-key = "{secret.decode()}"\n', 0o600)
    _write(directory() / f"{OWN}{PUBLIC}", text, 0o644)
    return Known(OWN, public), True


def own() -> Known:
    """This machine's public key. Raises ``InputError`` that says how to make one."""
    return Known(OWN, _own()[0])


def known() -> list[Known]:
    """The machines that are known by name, sorted; this one is not among them. Raises ``InputError`` for a file that is
    no key."""
    files = sorted(directory().glob(f"*{PUBLIC}"))
    return [Known(file.stem, _read(file)[0]) for file in files if file.stem != OWN]


def add(name: str, key: str) -> Known:
    """Know a machine by its public key, or by the file that holds it. A name that is taken by another key is refused.
    Raises ``InputError`` and ``WorldError``."""
    _check_name(name)
    public = _public(key)
    for each in known():
        if each.name == name and each.public != public:
            raise InputError(f"{name} is known with another key: rtpipe keys remove {name} first, if it has a new one")
        if each.public == public and each.name != name:
            raise InputError(f"this key is known already, as {each.name}")
    _write(directory() / f"{name}{PUBLIC}", f'metadata\ncurve\n    public-key = "{public.decode()}"\n', 0o644)
    return Known(name, public)


def remove(name: str) -> None:
    """Forget a machine. Pipelines that run already go on admitting it until they end. Raises ``InputError``."""
    _check_name(name)
    try:
        (directory() / f"{name}{PUBLIC}").unlink()
    except FileNotFoundError:
        raise InputError(f"no machine {name!r} is known; known: {_names()}") from None
    except OSError as error:
        raise WorldError(f"{directory() / name}{PUBLIC}: {error.strerror or error}") from error


def server(clients: Sequence[str] = ()) -> CurveServer:
    """What a producer needs that admits these machines, or all that are known. Raises ``InputError`` that says what to
    do where there is no own key or nobody to admit."""
    public, secret = _own()
    everybody = known()
    if not everybody:
        raise InputError("no machine's key is known here, so nobody could connect: rtpipe keys add NAME KEY")
    chosen = [_named(name, everybody) for name in clients] if clients else everybody
    return CurveServer(public, secret, [each.public for each in chosen])


def client(name: str) -> CurveClient:
    """What a consumer of the machine ``name`` needs. Raises ``InputError``."""
    public, secret = _own()
    return CurveClient(public, secret, _named(name, known()).public)


def _named(name: str, among: Sequence[Known]) -> Known:
    for each in among:
        if each.name == name:
            return each
    raise InputError(f"no machine {name!r} is known here ({_names()}): rtpipe keys add {name} KEY")


def _names() -> str:
    return ", ".join(each.name for each in known()) or "none"


def _own() -> tuple[bytes, bytes]:
    path = directory() / f"{OWN}{SECRET}"
    if not path.exists():
        raise InputError("this machine has no key of its own yet: rtpipe keys make")
    public, secret = _read(path)
    if not secret or zmq.curve_public(secret) != public:
        raise InputError(f"{path}: its two halves do not belong together: rtpipe keys make --overwrite")
    return public, secret


def _read(path: Path) -> tuple[bytes, bytes]:
    """Public and secret key of a file, the latter empty where it has none."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE).decode(errors="replace")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    found = dict(_LINE.findall(text))
    if "public" not in found:
        raise InputError(f"{path}: there is no public-key in it")
    return _checked(found["public"], str(path)), _checked(found["secret"], str(path)) if "secret" in found else b""


def _public(key: str) -> bytes:
    """A key as text, or the file that holds it."""
    if len(key) != 40 and Path(key).is_file():
        return _read(Path(key))[0]
    return _checked(key, "the key")


def _checked(key: str, what: str) -> bytes:
    try:
        if len(key) == 40 and len(z85.decode(key.encode("ascii"))) == 32:
            return key.encode("ascii")
    except (ValueError, KeyError, UnicodeEncodeError):
        pass
    raise InputError(f"{what}: {key[:60]!r} is no CURVE key: 40 characters (Z85) are wanted; quote it: 'KEY'")


def _check_name(name: str) -> None:
    if name == OWN or not _NAME.fullmatch(name):
        raise InputError(f"{name!r} is no name for a machine: letters, digits, dot, dash and underscore; not {OWN!r}")


def _write(path: Path, text: str, mode: int) -> None:
    """Whole or not at all, and never readable by others for a moment."""
    try:
        whole_file.write(path, [text.encode()], mode=mode, folder_mode=0o700)
    except OSError as error:
        raise WorldError(f"{path}: cannot be written: {error.strerror or error}") from error
