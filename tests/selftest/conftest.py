"""A camera for the self-test: the stand-in with faults and lies on demand, opened by the real driver."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from drivers import davis
from rtpipe import registry
from tests.drivers.camera import faults
from tests.drivers.camera.faults import Fault, Script
from tests.selftest import lying_backend

RECORDING = "recordings/aedat4/davis346_highway.aedat4"


@pytest.fixture
def plugged(
    shared: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., davis.Driver]]:
    """Plug the camera in with these faults; gives the driver for it, which is closed at the end."""
    names, load = registry.names, registry.load
    drivers: list[davis.Driver] = []

    def known(group: str) -> tuple[str, ...]:
        return ("lying",) if group == "backends" else names(group)

    def loaded(group: str, name: str) -> ModuleType:
        return lying_backend if (group, name) == ("backends", "lying") else load(group, name)

    def plug(*happens: Fault, ring: int = 200) -> davis.Driver:
        recording, log = str(shared(RECORDING)), str(tmp_path / "log")
        script = Script(recording=recording, log=log, faults=happens, transfer_us=10_000, ring=ring)
        (tmp_path / "script").write_bytes(msgspec.json.encode(script))
        monkeypatch.setenv(faults.VARIABLE, str(tmp_path / "script"))
        faults.camera.cache_clear()
        drivers.append(davis.Driver(davis.Settings()))
        return drivers[-1]

    monkeypatch.setattr(registry, "names", known)
    monkeypatch.setattr(registry, "load", loaded)
    lying_backend.lies.clear()
    lying_backend.spoils.clear()
    yield plug
    for driver in drivers:
        driver.close()
    faults.camera.cache_clear()
