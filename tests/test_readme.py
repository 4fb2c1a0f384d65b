"""The README's tutorial: every block is run as it stands, with smaller numbers."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from small_run import read_disc
from small_teachers import write_sam

from distill.run import main

ROOT = Path(__file__).resolve().parents[1]
SECTION = "## Your own folder, teacher and student"
SMALLER = (
    "image_size=32 student.width=4 optimiser.batch_size=4 workers=0 evaluate.bootstrap=100 publish.examples=1 "
    "cache.fidelity=0.8 cache.calibration=16 precision=fp32"
)
OWN = {
    "recipe=sam_to_unet": "stages.semantic.epochs=1 stages.boundary.epochs=1",
    "recipe=mine.yaml": "teachers.mine.image_size=64 stages.joint.epochs=1",
}


def blocks() -> list[tuple[str, str, str]]:
    """(language, the file that the text before names, the block) of the tutorial, in order."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition(SECTION)[2].partition("\n## ")[0]
    found = re.findall(r"(?:In `([\w.]+)`:\n+)?```(\w+)\n(.*?)```", text, flags=re.DOTALL)
    return [(language, name, block) for name, language, block in found]


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with what the tutorial's reader has."""
    folder = tmp_path_factory.mktemp("desk")
    for part in ("images", "masks"):
        (folder / "polyps" / part).mkdir(parents=True)
        for seed in range(20):
            pixels = read_disc(seed, (48, 56), part.removesuffix("s"))
            Image.fromarray(pixels if part == "images" else pixels * 255).save(folder / "polyps" / part / f"{seed}.png")
    write_sam(folder / "sam-vit-base")
    from torchvision.models import resnet18

    torch.manual_seed(0)
    save_file(resnet18().state_dict(), folder / "resnet18.safetensors")
    return folder


def smaller(line: str) -> str:
    """A command of the tutorial with smaller numbers, which come last and so count."""
    if not re.match(r"distill (run|compare) ", line):
        return line
    own = next(words for recipe, words in OWN.items() if recipe in line)
    flags = " ".join(word for word in line.split() if word.startswith("--"))
    line = line.removesuffix(flags).replace("seeds=0,1,2", "seeds=0")
    return f"{line} {SMALLER} {own} {flags}"


def expanded(line: str) -> list[str]:
    """The words of a command as a shell expands them."""
    shown = subprocess.run(["bash", "-c", f"printf '%s\\n' {line}"], capture_output=True, text=True, check=True)
    return shown.stdout.splitlines()


def test_every_block_of_the_tutorial_runs(desk, monkeypatch):
    monkeypatch.chdir(desk)
    monkeypatch.setattr(sys, "path", [*sys.path])
    commands = 0
    for language, name, block in blocks():
        if language != "sh":
            (desk / name).write_text(block, encoding="utf-8")
            continue
        for line in block.strip().splitlines():
            command, *words = expanded(smaller(line))
            assert (command, main(words)) == ("distill", 0), line
            commands += 1
    assert commands >= 7
    assert len(list((desk / "answers" / "masks").iterdir())) == 20
    mine = sorted(path.name.rpartition("-")[0] for path in (desk / "artifacts" / "runs").glob("mine-*"))
    assert {"mine-unet", "mine-my_student.MyNet"} <= set(mine)
    assert len(list((desk / "artifacts" / "features").glob("my_teacher.MyTeacher-*"))) == 1
