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
