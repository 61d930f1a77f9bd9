"""The rules of the house that no type checker sees: who imports whom, what is never used, how files look."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from rtpipe import registry

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("rtpipe", "drivers", "engines")
SPEAK_ZEROMQ = (
    "rtpipe/sockets/",
    "rtpipe/pipeline/",
    "rtpipe/bench/",
    "rtpipe/machine/",
    "rtpipe/cli/",
    "rtpipe/sinks/serve.py",
    "drivers/remote.py",
)
LONGEST_LINES = 400
LARGEST_BYTES = 2_000_000
SAY_NOTHING = {"util", "utils", "helper", "helpers", "common", "misc", "manager"}
RUN_WHAT_THEY_READ = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def in_repository(*suffixes: str) -> list[Path]:
    """Every file that git has or would take, relative to the root; only those that end in one of ``suffixes``."""
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True
    )
    if done.returncode:
        pytest.skip("needs a git checkout")
    names = sorted(set(done.stdout.decode().split("\0")) - {""})
    return [Path(name) for name in names if name.endswith(suffixes or ("",)) and (ROOT / name).is_file()]


def parsed(*under: str) -> Iterator[tuple[str, ast.Module]]:
    """The path and syntax tree of every Python file below ``under`` (below the root without it)."""
    for path in in_repository(".py"):
        if not under or path.as_posix().startswith(under):
            yield path.as_posix(), ast.parse((ROOT / path).read_text(encoding="utf-8"))


def imports(tree: ast.Module) -> set[str]:
    """The full names of all modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def importing(names: set[str], *wanted: str) -> set[str]:
    """Those of ``names`` that are one of ``wanted`` or inside it."""
    return {name for name in names if any(name == each or name.startswith(f"{each}.") for each in wanted)}


def test_rtpipe_imports_neither_drivers_nor_engines() -> None:
    wrong = {path: importing(imports(tree), "drivers", "engines") for path, tree in parsed("rtpipe/")}
    assert not {path: names for path, names in wrong.items() if names}


def test_drivers_and_engines_do_not_know_each_other() -> None:
    wrong = {path: importing(imports(tree), "engines") for path, tree in parsed("drivers/")}
    wrong |= {path: importing(imports(tree), "drivers") for path, tree in parsed("engines/")}
    assert not {path: names for path, names in wrong.items() if names}


def test_zeromq_is_known_only_where_processes_meet() -> None:
    meet = ("zmq", "rtpipe.sockets")
    offenders = [
        path
        for path, tree in parsed(*(f"{name}/" for name in PACKAGES))
        if not path.startswith(SPEAK_ZEROMQ) and importing(imports(tree), *meet)
    ]
    assert offenders == []


def test_formats_sinks_and_windows_know_no_pipeline() -> None:
    wrong = {
        path: importing(imports(tree), "rtpipe.pipeline", "rtpipe.cli")
        for path, tree in parsed("rtpipe/formats/", "rtpipe/sinks/", "rtpipe/window/", "rtpipe/simulate/")
    }
    assert not {path: names for path, names in wrong.items() if names}


def test_networks_and_the_torch_runtime_import_torch_and_numpy_alone() -> None:
    wrong = {}
    for path, tree in parsed("engines/"):
        if path.endswith("/network.py") or path == "engines/runtime/torch.py":
            outside = {name.split(".")[0] for name in imports(tree)} - {"torch", "numpy", *sys.stdlib_module_names}
            wrong[path] = outside
    assert not {path: names for path, names in wrong.items() if names}


def test_kernels_are_compiled_by_the_house_decorator() -> None:
    wrong = [path for path, tree in parsed("rtpipe/", "drivers/", "engines/") if importing(imports(tree), "numba")]
    assert set(wrong) <= {"rtpipe/kernels.py"}


def public_without_docstring(path: str, tree: ast.Module) -> Iterator[str]:
    """Names in ``tree`` that others may use and nobody described; an empty ``__init__.py`` needs no words."""
    if tree.body and ast.get_docstring(tree) is None:
        yield path
    open_bodies = [(tree.body, "")]
    while open_bodies:
        body, prefix = open_bodies.pop()
        for node in body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name[0] == "_":
                continue
            overload = any(ast.unparse(each).endswith((".setter", "overload")) for each in node.decorator_list)
            if ast.get_docstring(node) is None and not overload:
                yield f"{path}: {prefix}{node.name}"
            if isinstance(node, ast.ClassDef):
                open_bodies.append((node.body, f"{prefix}{node.name}."))


def test_everything_public_has_a_docstring() -> None:
    trees = parsed(*(f"{name}/" for name in PACKAGES))
    assert [name for path, tree in trees for name in public_without_docstring(path, tree)] == []


def runs_what_it_reads(call: ast.Call) -> bool:
    """Whether a call may run code that is hidden in the data (or text) it is given."""
    name = ast.unparse(call.func)
    given = {keyword.arg: keyword.value for keyword in call.keywords}

    def says(key: str, wanted: object) -> bool:
        value = given.get(key)
        return isinstance(value, ast.Constant) and value.value is wanted

    if name in ("eval", "exec", "os.system", "os.popen", "yaml.load", "yaml.load_all", "yaml.unsafe_load"):
        return True
    if name in ("yaml.full_load", "yaml.unsafe_load_all", "yaml.full_load_all"):
        return True
    if name == "torch.load":
        return not says("weights_only", True)
    if "allow_pickle" in given:
        return not says("allow_pickle", False)
    return "shell" in given and not says("shell", False)


def test_nothing_runs_what_it_reads() -> None:
    wrong = []
    for path, tree in parsed():
        wrong += [f"{path}: imports {name}" for name in imports(tree) if name.split(".")[0] in RUN_WHAT_THEY_READ]
        wrong += [
            f"{path}:{node.lineno}: {ast.unparse(node)}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and runs_what_it_reads(node)
        ]
    assert wrong == []


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "np.load(f, allow_pickle=True)",
        "np.load(f, allow_pickle=flag)",
        "yaml.load(f, Loader=yaml.SafeLoader)",
        "subprocess.run('ls', shell=True)",
        "eval(text)",
    ],
)
def test_the_rule_above_sees_what_is_unsafe(source: str) -> None:
    (call,) = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    assert runs_what_it_reads(call)


@pytest.mark.parametrize(
    "source", ["torch.load(f, weights_only=True)", "np.load(f)", "np.load(f, allow_pickle=False)", "yaml.safe_load(f)"]
)
def test_the_rule_above_lets_safe_reading_pass(source: str) -> None:
    (call,) = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    assert not runs_what_it_reads(call)


def test_every_module_is_read_in_one_sitting() -> None:
    lengths = {path: len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in in_repository(".py")}
    assert {str(path): lines for path, lines in lengths.items() if lines > LONGEST_LINES} == {}


def test_file_names_say_something() -> None:
    assert [str(path) for path in in_repository() if path.stem.lower() in SAY_NOTHING] == []


def test_nothing_is_left_unfinished() -> None:
    words = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b|NotImplemented" r"Error|pragma: no " r"cover")
    wrong = [str(path) for path in in_repository(".py") if words.search((ROOT / path).read_text(encoding="utf-8"))]
    assert wrong == []


def test_no_path_of_a_machine_and_no_registry_address() -> None:
    """What is written here must be true on every machine."""
    machine = r"(?<![\w.$}~])/(?:wo" r"rk|ro" r"ot|ho" r"me/[a-z]\w*|Us" r"ers|opt/(?:wheels|py" r"pi))(?=/|\b)"
    registry = r"\b(?:py" r"pi\.org|pythonho" r"sted\.org|registry\.np" r"mjs|deb\.deb" r"ian\.org)"
    pattern = re.compile(f"{machine}|{registry}")
    wrong = []
    for path in in_repository():
        try:
            text = (ROOT / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture
        wrong += [f"{path}: {found.group()}" for found in pattern.finditer(text)]
    assert wrong == []


def test_no_large_files() -> None:
    sizes = {str(path): (ROOT / path).stat().st_size for path in in_repository()}
    assert {path: size for path, size in sizes.items() if size > LARGEST_BYTES} == {}


INNER_NAMES = {
    "drivers": ("Settings", "Driver"),
    "engines": ("Settings", "Engine"),
    "sinks": ("Settings", "Sink", "DELIVERY", "wants"),
    "formats": ("DESCRIPTION", "probe", "Reader"),
    "filters": ("Settings", "Filter"),
}


def test_siblings_have_the_same_inner_names() -> None:
    wrong = []
    for group, wanted in INNER_NAMES.items():
        for part in registry.names(group):
            there = vars(registry.load(group, part))
            wrong += [f"{group[:-1]} {part} has no {name}" for name in wanted if name not in there]
    assert wrong == []


def verbs(command: Any, name: str) -> Iterator[tuple[str, str]]:
    """The full name and help of every verb of the command line."""
    if hasattr(command, "commands"):
        for word, inner in command.commands.items():
            yield from verbs(inner, f"{name} {word}")
    else:
        yield name, command.help or ""


def test_every_verb_has_help_with_an_example() -> None:
    from rtpipe.cli import app

    found = dict(verbs(typer.main.get_command(app), "rtpipe"))
    assert {"rtpipe run", "rtpipe doctor", "rtpipe info", "rtpipe demo", "rtpipe simulate"} <= set(found)
    silent = [name for name, text in found.items() if name not in text.partition("Example")[2]]
    assert silent == []
