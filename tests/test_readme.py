"""Every command and block of README.md, and the teacher and student of a user's own, run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from published import write_student
from safetensors.torch import save_file
from small_run import read_disc

from distill.run import main

ROOT = Path(__file__).resolve().parents[1]
SMALLER = [
    "image_size=32",
    "student.width=4",
    "optimiser.batch_size=4",
    "workers=0",
    "evaluate.bootstrap=100",
    "publish.examples=1",
    "cache.fidelity=0.8",
    "cache.calibration=16",
    "precision=fp32",
    "stages.joint={steps: 2, epochs: 0}",
]


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    return text.partition(f"## {title}\n")[2].partition("\n## ")[0]


def block(text: str, word: str) -> str:
    """The Python block that holds a word."""
    (found,) = (block for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL) if word in block)
    return found


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with what a reader has: images with masks, and a ResNet-18 with random weights."""
    folder = tmp_path_factory.mktemp("desk")
    for part in ("images", "masks"):
        (folder / "polyps" / part).mkdir(parents=True)
        for seed in range(24):
            pixels = read_disc(seed, (48, 56), part.removesuffix("s"))
            Image.fromarray(pixels if part == "images" else pixels * 255).save(folder / "polyps" / part / f"{seed}.png")
    from torchvision.models import resnet18

    torch.manual_seed(0)
    save_file(resnet18().state_dict(), folder / "resnet18.safetensors")
    return folder


@pytest.fixture
def at_desk(desk, monkeypatch):
    monkeypatch.chdir(desk)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return desk


def typed(line: str) -> list[str]:
    """The words of a command as a shell gives them."""
    shown = subprocess.run(["bash", "-c", f"printf '%s\\n' {line}"], capture_output=True, text=True, check=True)
    return shown.stdout.splitlines()


def smaller(words: list[str]) -> list[str]:
    """The same command with smaller numbers, which come last and so count."""
    if words[1] not in ("run", "compare"):
        return words
    flags = [word for word in words if word.startswith("--")]
    few = ["seeds=0"] if words[1] == "compare" else []
    return [*(w for w in words if w not in flags), *few, *SMALLER, "teachers.expert.image_size=64", *flags]


def test_the_commands_for_a_reader_s_own_data_run(at_desk):
    (commands,) = re.findall(r"```sh\n(.*?)```", section(page("README.md"), "Your data"), flags=re.DOTALL)
    for line in commands.strip().splitlines():
        run = next((path.parent for path in at_desk.glob("artifacts/runs/*/predictions.csv")), Path())
        words = smaller(typed(line.replace("DIR", "polyps").replace("artifacts/runs/RUN", str(run))))
        assert (words[0], main(words[1:])) == ("distill", 0), line
    assert len(list((at_desk / "masks" / "masks").iterdir())) == 24


def test_the_command_that_segments_with_a_published_student_runs(at_desk):
    (commands,) = re.findall(r"```sh\n(.*?)```", section(page("README.md"), "Published students"), flags=re.DOTALL)
    words = typed(commands.splitlines()[0].replace("DIR", "polyps/images").replace("=masks", "=found"))
    assert (words[0], main(words[1:])) == ("distill", 0)
    assert len(list((at_desk / "found" / "masks").iterdir())) == 24


def test_a_teacher_and_a_student_of_the_reader_s_own_go_through_the_whole_run(at_desk):
    (at_desk / "my_teacher.py").write_text(block(page("teachers/README.md"), "class MyTeacher"), encoding="utf-8")
    (at_desk / "my_student.py").write_text(block(page("students/README.md"), "class MyNet"), encoding="utf-8")
    (at_desk / "mine.yaml").write_text(
        "extends: timm_to_unet\nname: mine\ndata: {root: polyps}\nteachers:\n  efficientnet: null\n"
        '  mine: {adapter: "my_teacher:MyTeacher", weights: resnet18.safetensors, image_size: 64}\n'
    )
    for student in ([], ["student.name=my_student:MyNet"]):
        assert main(["run", "recipe=mine.yaml", *SMALLER, *student]) == 0
    mine = sorted(path.name.rpartition("-")[0] for path in (at_desk / "artifacts" / "runs").glob("mine-*-*"))
    assert {"mine-unet", "mine-my_student.MyNet"} <= set(mine)
    assert len(list((at_desk / "artifacts" / "features").glob("my_teacher.MyTeacher-*"))) == 1


def test_the_lines_that_use_a_published_student_run(tmp_path):
    lines = block(page("README.md"), "load_model").replace("artifacts/runs/RUN/student", str(write_student(tmp_path)))
    names = {"image": np.zeros((40, 52, 3), np.uint8)}
    exec(lines, names)
    assert names["probability"].shape == (1, 40, 52)
