"""The house: who may import whom, registries that name what exists, and true pages."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("distill", "teachers", "students", "cache", "recipes")
MAY_IMPORT = {
    "distill": {"teachers", "students", "cache", "recipes"},
    "teachers": {"cache.spec"},
    "students": set(),
    "cache": set(),
    "recipes": set(),
}
LEVELS = {  # rooms of distill; each imports only what has a lower number
    "runtime": 0, "data.synthetic": 0, "config": 1, "metrics": 1, "data": 2, "data.sources": 3, "distillation": 4,
    "runs": 5, "extraction": 6, "inference": 6, "cache_report": 6, "evaluation": 7, "training": 8, "publishing": 8,
    "comparison": 9, "report": 9, "doctor": 10, "bench": 10, "demo": 10, "cli": 11,
}  # fmt: skip
RIDDLES = {"How", "What", "When", "Where", "Which", "Who", "Why"}  # a docstring begins with a noun in their place
BESIDE = {
    "CITATION.cff",
    "LICENSE",
    "CHANGELOG.md",
    "LOG.md",
    "README.md",
    "pyproject.toml",
    "results",
    "tests",
    *ROOMS,
}


def tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_downwards(room):
    for path in (ROOT / room).rglob("*.py"):
        for name in imports_of(path):
            top = name.split(".")[0]
            if top in ROOMS and top != room:
                allowed = MAY_IMPORT[room] | ({"students"} if path.name == "student.py" else set())
                assert top in allowed or name in allowed, f"{path.relative_to(ROOT)} imports {name}"


def test_training_and_publishing_never_import_a_teacher():
    code = (
        "import sys, distill.training.train, distill.publishing.publish, distill.evaluation.evaluate\n"
        "assert not [m for m in sys.modules if m.startswith(('teachers.', 'timm', 'segment_anything'))], sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("registry", "name"),
    [("teachers", "TEACHERS"), ("students.registry", "STUDENTS"), ("distill.config.registry", "DATASETS")],
)
def test_registries_are_literal_and_name_what_exists(registry, name):
    module = import_module(registry)
    for key, place in getattr(module, name).items():
        path, _, attribute = place.partition(":")
        assert getattr(import_module(path), attribute), key
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    values = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, (ast.Assign, ast.AnnAssign))
        and getattr(node.targets[0] if isinstance(node, ast.Assign) else node.target, "id", "") == name
    ]
    assert isinstance(values[0], ast.Dict)


def test_the_top_level_is_what_was_agreed():
    top = {name.split("/")[0] for name in tracked()}
    assert {name for name in top if not name.startswith(".")} <= BESIDE


def room_of(module: str) -> str | None:
    """The room of a module of `distill`, the longest name of `LEVELS` that it begins with."""
    parts = module.split(".")
    return next((name for size in (3, 2) if (name := ".".join(parts[1:size])) in LEVELS), None)


def test_rooms_of_distill_import_only_lower_levels():
    for path in (ROOT / "distill").rglob("*.py"):
        room = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for name in imports_of(path) if room else ():
            other = room_of(name) if name.startswith("distill.") else None
            allowed = other is None or other == room or LEVELS[other] < LEVELS[room]
            assert allowed, f"{path.relative_to(ROOT)} ({room}) imports {name} ({other})"


def test_no_module_lies_flat_in_distill_but_the_entrances():
    assert {path.name for path in (ROOT / "distill").glob("*.py")} == {
        "__init__.py",
        "__main__.py",
        "run.py",
        "verbs.py",
    }
    rooms = {room_of(f"distill.{'.'.join(path.relative_to(ROOT / 'distill').parts)}") for path in packages()}
    assert rooms == set(LEVELS)


def packages() -> list[Path]:
    return [path.parent for path in (ROOT / "distill").rglob("__init__.py") if path.parent.name != "distill"]


def test_modules_import_one_another_in_no_circle():
    graph = {module_of(path): edges_of(path) for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"imported in a circle: {' -> '.join(error.args[1])}")


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def edges_of(path: Path) -> set[str]:
    """The modules of ours that a file imports, packages themselves left out where a module of theirs is named."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules = {f"{node.module}.{alias.name}" for alias in node.names}
            inner = {name for name in modules if (ROOT / name.replace(".", "/")).with_suffix(".py").is_file()}
            found |= inner or {node.module or ""}
    return {name for name in found if name.partition(".")[0] in ROOMS} - {module_of(path)}


@pytest.mark.parametrize("package", [str(path.relative_to(ROOT)) for path in packages()])
def test_a_room_lists_its_files_one_line_each(package):
    folder = ROOT / package
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    listed = re.findall(r"^(\w+): \S", text, flags=re.MULTILINE)
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert sorted(listed) == sorted(files), f"{package}/__init__.py should list exactly its files"


@pytest.mark.parametrize("room", (*ROOMS, "tests"))
def test_a_docstring_says_what_a_thing_is_and_begins_with_no_riddle(room):
    for path in (ROOT / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                first = (ast.get_docstring(node) or "").partition("\n")[0]
                assert first.partition(" ")[0] not in RIDDLES, f"{path.relative_to(ROOT)}: {first!r}; begin with a noun"


def test_the_map_of_distill_names_every_room():
    text = (ROOT / "distill" / "README.md").read_text(encoding="utf-8")
    assert {name.split(".")[0] for name in LEVELS} <= set(re.findall(r"`(\w+)/`", text))


def test_the_readme_can_be_finished():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 220 and max(map(len, lines)) <= 140


def test_links_of_the_pages_lead_somewhere():
    for name in tracked():
        if name.endswith(".md") and name != "LOG.md":
            page = ROOT / name
            for link in re.findall(r"\]\(([^)#\s]+)(?:#[\w-]+)?\)", page.read_text(encoding="utf-8")):
                assert "://" in link or (page.parent / link).exists(), f"{name} links to {link}"


def test_no_large_file_is_committed_but_the_built_in_teacher_and_published_students():
    large = [name for name in tracked() if (ROOT / name).stat().st_size > 1_000_000]
    students = {
        f"students/zoo/{path.parent.name}/{path.name}" for path in (ROOT / "students").glob("zoo/*/*.safetensors")
    }
    assert set(large) <= {"teachers/builtin/model.safetensors"} | students
    assert all((ROOT / name).stat().st_size < 10_000_000 for name in large)


def test_help_needs_no_torch_and_verbs_stay_functions():
    script = (
        "import sys; from distill.run import main; assert main(['--help']) == 0; assert 'torch' not in sys.modules\n"
        "import distill, distill.report.write, distill.run; from distill import train\n"
        "assert all(callable(getattr(distill, name)) for name in distill.__all__), distill.__all__\n"
        "assert train is distill.train and 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)
