"""Has everything that rtpipe needs a wheel for aarch64 (Jetson, Raspberry Pi)? Asks pip, downloads no wheel.

Resolves the base dependencies and the extra `cameras` of pyproject.toml, with all that they need in turn, from wheels
alone, for each Python on a system with glibc 2.35 (Ubuntu 22.04, which JetPack 6 is). Prints a table; leaves with 1 and
the names of what is missing. pip judges environment markers by the machine it runs on, so a package that only another
machine or Python needs is not looked at.

    python scripts/check_wheels.py [--python 3.10 --python 3.12] [--machine aarch64] [--extra cameras]
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
OLDEST_GLIBC, NEWEST_GLIBC = 17, 35
"""manylinux_2_17 to manylinux_2_35."""


@dataclass(frozen=True)
class Answer:
    """What pip said for one Python: ``wheels`` maps a normalised name to its wheel's file name; ``missing`` maps a
    requirement to pip's complaint."""

    wheels: Mapping[str, str]
    missing: Mapping[str, str]


def normalised(requirement: str) -> str:
    """The package's name in a requirement, as the index spells it: ``dv_processing>=2`` is ``dv-processing``."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement.strip())
    if match is None:
        raise ValueError(f"not a requirement: {requirement!r}")
    return re.sub(r"[-_.]+", "-", match.group()).lower()


def requirements(pyproject: str, extras: Sequence[str]) -> list[str]:
    """The base dependencies and those of ``extras`` in a pyproject.toml's text, version ranges included."""
    project = tomllib.loads(pyproject)["project"]
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    return wanted


def command(wanted: Sequence[str], python: str, machine: str, target: str, alone: bool) -> list[str]:
    """The pip command that resolves ``wanted`` for ``python`` on ``machine`` and reports on standard output.

    ``target`` is a folder that pip wants named and leaves empty; ``alone`` leaves out what they need in turn."""
    call = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--report", "-", "--only-binary=:all:"]
    call += ["--no-input", "--disable-pip-version-check", "--ignore-installed", "--target", target]
    call += ["--implementation", "cp", "--python-version", python]
    for minor in range(NEWEST_GLIBC, OLDEST_GLIBC - 1, -1):
        call += ["--platform", f"manylinux_2_{minor}_{machine}"]
    call += ["--platform", f"manylinux2014_{machine}"]
    return [*call, *(["--no-deps"] if alone else []), *wanted]


def wheels(report: Mapping[str, Any]) -> dict[str, str]:
    """Normalised name to wheel file name, from pip's installation report."""
    found = {}
    for item in report["install"]:
        file = unquote(item["download_info"]["url"].split("#")[0].rsplit("/", 1)[-1])
        found[normalised(item["metadata"]["name"])] = file
    return found


def complaint(errors: str) -> str:
    """The line of pip's standard error that says what is wrong."""
    lines = [line.removeprefix("ERROR: ") for line in errors.splitlines() if line.startswith("ERROR: ")]
    return lines[-1] if lines else (errors.strip().splitlines() or ["pip said nothing"])[-1]


def describe(wheel: str) -> str:
    """A wheel's version and what it runs on: ``2.2.6 manylinux_2_17`` or ``15.0.0 pure``."""
    _, version, *_, platform = wheel.removesuffix(".whl").split("-")
    if platform == "any":
        return f"{version} pure"
    return f"{version} {re.sub(r'_(aarch64|x86_64)$', '', platform.split('.')[0])}"


def ask(wanted: Sequence[str], python: str, machine: str) -> Answer:
    """Resolve all together; where that fails, each alone, so that what is missing has a name."""

    def resolve(some: Sequence[str], alone: bool) -> tuple[dict[str, str], str]:
        with tempfile.TemporaryDirectory() as target:
            done = subprocess.run(command(some, python, machine, target, alone), capture_output=True, text=True)
        if done.returncode:
            return {}, complaint(done.stderr)
        return wheels(json.loads(done.stdout)), ""

    found, trouble = resolve(wanted, alone=False)
    if not trouble:
        return Answer(found, {})
    missing = {}
    for requirement in wanted:
        one, why = resolve([requirement], alone=True)
        found |= one
        if why:
            missing[requirement] = why
    return Answer(found, missing or {"all of them together": trouble})


def table(wanted: Sequence[str], answers: Mapping[str, Answer]) -> str:
    """One row per package, the direct dependencies first; one column per Python."""
    direct = [normalised(requirement) for requirement in wanted]
    others = sorted({name for answer in answers.values() for name in answer.wheels} - set(direct))
    rows = [["package", *(f"Python {python}" for python in answers)]]
    for name in [*direct, *others]:
        cells = (describe(a.wheels[name]) if name in a.wheels else "-" for a in answers.values())
        rows.append([name if name in direct else f"  {name}", *cells])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description="Has everything that rtpipe needs a wheel for aarch64?")
    parser.add_argument("--python", action="append", metavar="X.Y", help="default: 3.10 and 3.12")
    parser.add_argument("--machine", default="aarch64")
    parser.add_argument("--extra", action="append", metavar="NAME", help="default: cameras")
    options = parser.parse_args()
    wanted = requirements(PYPROJECT.read_text(encoding="utf-8"), options.extra or ["cameras"])
    pythons = options.python or ["3.10", "3.12"]
    with ThreadPoolExecutor() as pool:
        replies = pool.map(lambda python: ask(wanted, python, options.machine), pythons)
        answers = dict(zip(pythons, replies, strict=True))
    print(table(wanted, answers))
    for python, answer in answers.items():
        for requirement, why in answer.missing.items():
            print(f"no {options.machine} wheel for Python {python}: {requirement}: {why}")
    return 1 if any(answer.missing for answer in answers.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
