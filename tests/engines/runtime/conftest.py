"""Exported files of the tests lie in one place for a whole session: exporting takes seconds. A GPU made of threads."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines.runtime import cuda_calls
from tests.engines.runtime.standin import tensorrt
from tests.engines.runtime.standin.gpu import Gpu, build


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def cache(session_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``XDG_CACHE_HOME`` of the test: shared by all; a test that spoils it sets its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(session_cache))
    return session_cache


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Gpu:
    """The stand-in's library; without a C compiler a developer's machine skips, CI fails."""
    if shutil.which("cc") is None:
        reason = "needs a C compiler as `cc`"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return Gpu(build(tmp_path_factory.mktemp("libcuda")))


@pytest.fixture
def gpu(standin: Gpu, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpu]:
    """A GPU that is no GPU (``standin/gpu.c``), found by what is tested in place of the machine's. Whatever was done to
    it that CUDA forbids, and every race, fails the test."""
    monkeypatch.setattr(cuda_calls, "LIBRARY", str(standin.path))
    monkeypatch.setattr(tensorrt, "gpu", standin)
    standin.restore()
    yield standin
    assert (standin.races, standin.faults, tensorrt.failures) == ("", "", [])
