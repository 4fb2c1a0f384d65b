"""The house: who may import whom, registries that name what exists, and a README that tells the truth."""

from __future__ import annotations

import ast
import subprocess
import sys
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
BESIDE = {"LICENSE", "CHANGELOG.md", "LOG.md", "README.md", "pyproject.toml", "results", "tests", *ROOMS}


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
    ("registry", "name"), [("teachers", "TEACHERS"), ("students.registry", "STUDENTS"), ("distill.data.sources.open_data", "DATASETS")]
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


def test_the_readme_shows_the_tree_one_line_a_file():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = {line.split()[0] for line in readme.split("```tree")[1].split("```")[0].splitlines() if line.strip()}
    files = {
        name
        for name in tracked()
        if name.split("/")[0] in ROOMS and name.endswith((".py", ".yaml")) and not name.endswith("__init__.py")
    }
    assert listed - {f"{room}/" for room in ROOMS} == files


def test_no_large_file_is_committed_but_the_built_in_teacher():
    large = [name for name in tracked() if (ROOT / name).stat().st_size > 1_000_000]
    assert set(large) <= {"teachers/builtin/model.safetensors"}
    assert all((ROOT / name).stat().st_size < 10_000_000 for name in large)


def test_help_needs_no_torch_and_verbs_stay_functions():
    script = (
        "import sys; from distill.run import main; assert main(['--help']) == 0; assert 'torch' not in sys.modules\n"
        "import distill, distill.report.write, distill.run; from distill import train\n"
        "assert all(callable(getattr(distill, name)) for name in distill.__all__), distill.__all__\n"
        "assert train is distill.train and 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)
