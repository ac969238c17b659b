"""The rules of the house, read from the source: who imports whom, how large things get, what is banned."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "talent_factory"

# Rooms from the ground up; a room may import itself and every room that stands before it.
STOREYS = (
    "core",
    "storage",
    "quality",
    "world",
    "providers",
    "datagen",
    "dataset",
    "training",
    "lipsync",
    "kits",
    "foundry",
    "report",
    "engines",
    "pipeline",
    "service",
    "cli",
    "image",
)
# Arrows that point down the storeys but are still not wanted.
FORBIDDEN = {
    "world": {"providers"},
    "kits": {"training", "datagen", "providers", "world", "lipsync"},
    "lipsync": {"providers"},
    "foundry": {"lipsync"},
    "image": set(),
}
# Modules that belong to the room of another name.
MEMBERS = dict.fromkeys(
    ("aftermath", "base_facts", "client", "newcomer", "pace", "stage_book", "stage_work", "stages"),
    "pipeline",
)

TORCH = {"torch", "diffusers", "transformers", "accelerate"}
TORCH_ROOMS = {"training", "foundry", "lipsync", "providers", "engines"}
TORCH_FREE_PARTS = ("providers/embedded/", "providers/port.py")
# Rooms without pictures.
IMAGE_LIBRARIES = {"cv2", "PIL", "numpy", "skimage"}
IMAGE_FREE_ROOMS = {"core"}
# The command line imports these only inside functions, so that `talent --help` stays quick.
LATE = TORCH | IMAGE_LIBRARIES | {"pydantic", "safetensors", "rich", "jinja2", "psutil", "yaml"}

MAX_FILE, MAX_FUNCTION, MAX_PARAMETERS = 400, 60, 8

BANNED_IMPORTS = {"pickle", "cPickle", "dill", "marshal", "shelve", "torchvision", "torchaudio"}
BANNED_CALLS = {"torch.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system", "eval", "exec"}
BANNED_WORDS = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")
# Paths of one machine and hosts of one network have no place in what is shipped.
BANNED_TEXT = re.compile(
    r"/[w]ork/|\.\./[s]hared|/[t]mp/plan|[a]rtifactory|[d]evpi|[i]ndex-url", re.IGNORECASE
)
TEXT_SUFFIXES = {
    ".py",
    ".md",
    ".toml",
    ".yaml",
    ".yml",
    ".txt",
    ".json",
    ".html",
    ".css",
    ".js",
    ".j2",
    ".cfg",
    "",
}


def _modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


MODULES = _modules()
each_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), filename=str(path))


def _room(parts: tuple[str, ...]) -> str:
    name = parts[0] if parts else ""
    return MEMBERS.get(name, name)


def _room_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE).with_suffix("")
    return "" if relative.name == "__init__" and len(relative.parts) == 1 else _room(relative.parts)


def _imports(path: Path, *, top_only: bool = False) -> Iterator[tuple[str, int]]:
    """Absolute names of imported modules and their lines; imports for type checkers alone do not count."""
    hidden = _type_checking_nodes(_tree(path))
    nodes = _top_level(_tree(path)) if top_only else ast.walk(_tree(path))
    for node in nodes:
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            base = node.module or ""
            if base == "talent_factory":
                yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)
            else:
                yield base, node.lineno


def _top_level(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
            yield from _top_level(node)


def _type_checking_nodes(tree: ast.Module) -> set[int]:
    guards = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    ]
    return {id(inner) for guard in guards for statement in guard.body for inner in ast.walk(statement)}


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_the_house_is_not_empty() -> None:
    assert len(MODULES) > 20


@each_module
def test_arrows_point_one_way(path: Path) -> None:
    room = _room_of(path)
    if not room:  # the public face may name every room
        return
    assert room in STOREYS, f"{path.name} stands in no known room; add {room!r} to STOREYS or MEMBERS"
    for name, line in _imports(path):
        if not name.startswith("talent_factory."):
            continue
        target = _room(tuple(name.split(".")[1:]))
        if target not in STOREYS:
            continue  # a plain name of the public face, such as __version__
        assert STOREYS.index(target) <= STOREYS.index(room), f"{path}:{line} {room} must not import {target}"
        assert target not in FORBIDDEN.get(room, set()), f"{path}:{line} {room} must not import {target}"


@each_module
def test_torch_stays_in_its_rooms(path: Path) -> None:
    relative = path.relative_to(PACKAGE).as_posix()
    allowed = _room_of(path) in TORCH_ROOMS and not relative.startswith(TORCH_FREE_PARTS)
    for name, line in _imports(path):
        top = name.split(".")[0]
        assert allowed or top not in TORCH, f"{path}:{line} imports {top}"
        assert top not in BANNED_IMPORTS, f"{path}:{line} imports {top}"
        if _room_of(path) in IMAGE_FREE_ROOMS:
            assert top not in IMAGE_LIBRARIES, f"{path}:{line} imports {top}"


@each_module
def test_the_command_line_loads_late(path: Path) -> None:
    if _room_of(path) != "cli":
        return
    for name, line in _imports(path, top_only=True):
        assert name.split(".")[0] not in LATE, f"{path}:{line} imports {name} at the top"
        light = name.startswith(("talent_factory.cli", "talent_factory.core.errors"))
        assert light or not name.startswith("talent_factory."), f"{path}:{line} imports {name} at the top"


@each_module
def test_sizes(path: Path) -> None:
    length = len(path.read_text("utf-8").splitlines())
    assert length <= MAX_FILE, f"{path} has {length} lines"
    assert path.name not in {"utils.py", "util.py", "helpers.py", "misc.py"}, (
        f"{path} says nothing by its name"
    )
    for function in _functions(path):
        where = f"{path}:{function.lineno} {function.name}"
        lines = (function.end_lineno or 0) - function.lineno + 1
        assert lines <= MAX_FUNCTION, f"{where} has {lines} lines"
        if _is_command(function):
            continue
        arguments = function.args
        count = len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs)
        count -= bool(arguments.args and arguments.args[0].arg in ("self", "cls"))
        assert count <= MAX_PARAMETERS, f"{where} has {count} parameters"


def _is_command(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """A command's parameters are its options: the reader of them is a person at a terminal."""
    everything = [*function.args.args, *function.args.kwonlyargs]
    marks = [ast.unparse(argument.annotation) for argument in everything if argument.annotation]
    return any("Option" in mark or "Argument" in mark for mark in marks)


@each_module
def test_everything_public_says_what_it_does(path: Path) -> None:
    tree = _tree(path)
    first = (ast.get_docstring(tree) or "").split("\n")[0]
    assert first, f"{path} has no module docstring"
    assert first[-1] in ".;:,!?" or "\n" in (ast.get_docstring(tree) or ""), (
        f"{path}: its first line is no sentence"
    )
    for node in _public(tree):
        assert ast.get_docstring(node), f"{path}:{node.lineno} {node.name} has no docstring"


def _public(
    tree: ast.Module | ast.ClassDef,
) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name[0] != "_":
            overload = any("overload" in ast.unparse(item) for item in node.decorator_list)
            if not overload:
                yield node
            if isinstance(node, ast.ClassDef):
                yield from _public(node)


@each_module
def test_nothing_dangerous_is_called(path: Path) -> None:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            assert name not in BANNED_CALLS, f"{path}:{node.lineno} calls {name}"
            for keyword in node.keywords:
                shell = keyword.arg == "shell" and not (
                    isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                )
                assert not shell, f"{path}:{node.lineno} runs a shell"
    found = BANNED_WORDS.search(path.read_text("utf-8"))
    assert found is None, f"{path} says {found and found.group()}"


@each_module
def test_annotations_are_late(path: Path) -> None:
    tree = _tree(path)
    if any(not isinstance(node, ast.Expr) for node in tree.body):
        text = path.read_text("utf-8")
        assert "from __future__ import annotations" in text, f"{path} evaluates its annotations"


@each_module
def test_swallowed_errors_have_names(path: Path) -> None:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.ExceptHandler):
            kind = ast.unparse(node.type) if node.type else ""
            passes = all(isinstance(item, ast.Pass) for item in node.body)
            assert kind, f"{path}:{node.lineno} catches everything"
            assert not (passes and kind in ("Exception", "BaseException")), (
                f"{path}:{node.lineno} swallows {kind}"
            )


def _tracked() -> list[Path]:
    try:
        done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    names = [name for name in done.stdout.decode("utf-8").split("\0") if name]
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def test_shipped_texts_name_no_machine() -> None:
    for path in _tracked():
        if path.suffix not in TEXT_SUFFIXES or path.stat().st_size > 1 << 20 or path.name == "LICENSE":
            continue
        found = BANNED_TEXT.search(path.read_text("utf-8", errors="replace"))
        assert found is None, f"{path.relative_to(ROOT)} says {found and found.group()!r}"


def test_nothing_large_or_unsafe_is_tracked() -> None:
    for path in _tracked():
        assert path.suffix not in {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".bin"}, f"{path} may hold code"
        assert path.stat().st_size < 32 << 20, f"{path} is too large for a checkout"
    assets = PACKAGE / "assets" / "mini"
    total = sum(path.stat().st_size for path in assets.rglob("*") if path.is_file())
    assert total <= 24 << 20, f"the embedded base takes {total / 2**20:.1f} MiB"


def test_every_locked_version_fits_the_declared_range() -> None:
    import tomllib

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    locked = {canonicalize_name(name): version for name, version in pins.items()}
    assert not {"torchvision", "torchaudio"} & set(locked)
    assert locked["torch"] == "2.13.0"
    extras = project["optional-dependencies"].values()
    for text in [*project["dependencies"], *(item for extra in extras for item in extra)]:
        wanted = Requirement(text)
        name = canonicalize_name(wanted.name)
        if name != project["name"]:
            assert wanted.specifier.contains(locked[name]), f"{text} does not allow {locked[name]}"
