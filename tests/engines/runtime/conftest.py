"""Exported files of the tests lie in one place for a whole session: exporting takes seconds."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def cache(session_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``XDG_CACHE_HOME`` of the test: shared by all; a test that spoils it sets its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(session_cache))
    return session_cache
