"""What every test may ask for: the recordings and golden vectors that lie beside the checkout."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """``shared("recordings/aedat4/x.aedat4")``: its path; skips without it on a developer's machine, fails in CI."""

    def find(relative: str) -> Path:
        path = SHARED / relative
        if not path.exists():
            reason = f"needs ../shared/{relative} beside the checkout"
            if os.environ.get("CI") == "true":
                pytest.fail(reason)
            pytest.skip(reason)
        return path

    return find


PROCESSES = ("bench", "check", "cli", "drivers", "history", "pipeline", "selftest", "sinks", "sockets")
"""Folders whose tests wait for processes, sockets and screens on machines that others use too."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Such a test may fail once for want of the machine's time; it is run once more, and the summary names it. Tests of
    what is computed are not: they are right or wrong."""
    if not config.pluginmanager.hasplugin("rerunfailures"):
        return
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).parts[0] in PROCESSES:
            item.add_marker(pytest.mark.flaky(reruns=1))
