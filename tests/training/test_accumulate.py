"""Steps that take their batch in parts (`optimiser.accumulate`): the same step as with the whole batch at once."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from small_run import recipe_of, run_of, train_killed_at, weights_of

from distill.config.registry import BAND_OF, FEATURE_LOSSES, MASK_LOSSES, TASK_LOSSES
from distill.config.schedule import Span
from distill.config.schema import OptimiserRecipe, StageRecipe, StudentRecipe
from distill.data.teacher_dropout import teacher_mask_key
from distill.distillation.distiller import Distiller
from distill.distillation.targets import Target
from distill.runs.checks import check_shares
from distill.training.plan import plan_training
from distill.training.state import build_state
from students import create

training = import_module("distill.training.train")
IMAGES, SIDE, STEPS = 8, 32, 4
CASES = [(name, classes) for name in TASK_LOSSES for classes in (1, 3)]
CASES += [(name, 1) for name in (*MASK_LOSSES, *FEATURE_LOSSES)]
SHARED = (("boundary", 3), ("imitate_mask", 1), ("imitate_features", 1))  # between processes, in parts


def target_of(term: str) -> Target:
    """The target of a term; `mask` shall be the band of those on masks alone."""
    band = BAND_OF.get(term, "mask")
    return Target("t", "m", band, 8, (SIDE, SIDE) if band == "mask" else (4, 4), 5, 0.5)


def batch_of(step: int, classes: int, target: Target) -> dict[str, torch.Tensor]:
    """Small and large objects, unknown pixels, images without labels, and a teacher that some images do without."""
    random = torch.Generator().manual_seed(step)
    y = torch.arange(SIDE)
    mask = torch.stack([((y[:, None] - 16) ** 2 + (y - 16) ** 2 < (3 + 2 * n) ** 2).long() for n in range(IMAGES)])
    mask = mask * (1 + torch.arange(IMAGES)[:, None, None] % max(1, classes - 1))
    mask[:, : step + 2] = 255
    mask[-3:] = 255
    shape = (SIDE, SIDE) if target.band == "mask" else (5, 4, 4)
    return {
        "image": torch.randn(IMAGES, 3, SIDE, SIDE, generator=random, dtype=torch.float64),
        "mask": mask,
        target.name: torch.randn(IMAGES, *shape, generator=random, dtype=torch.float64),
        teacher_mask_key("t"): torch.arange(IMAGES) % 3 > 0,
    }


def train_steps(
    term: str, classes: int, *, accumulate: int, rank: int = 0, ranks: int = 1
) -> tuple[list[torch.Tensor], list[float]]:
    """The weights after each step of SGD in float64, batch norm with fixed statistics, and this process's losses."""
    torch.manual_seed(0)
    target = target_of(term)
    student = create("unet", width=2, classes=classes).double().eval()
    distiller = Distiller(student, [target]).double()
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    accelerator = Accelerator(cpu=True, kwargs_handlers=[unused])
    optimiser = torch.optim.SGD([{"params": distiller.parameters(), "part": "rest"}], lr=0.1)
    model, optimiser = accelerator.prepare(distiller, optimiser)
    recipe = recipe_of(student=StudentRecipe(width=2, classes=classes))
    recipe = replace(recipe, optimiser=OptimiserRecipe(learning_rate=0.1, batch_size=8, accumulate=accumulate))
    state = SimpleNamespace(
        run=SimpleNamespace(recipe=recipe, accelerator=accelerator), average=None,
        student=student, model=model, optimiser=optimiser, dataset=SimpleNamespace(targets=(target,), on_device=False),
        inputs=lambda batch: batch["image"],
    )  # fmt: skip
    span = Span("s", StageRecipe(steps=STEPS, losses={term: 1.0}), 0, STEPS, per_epoch=1, schedule=(0, STEPS))
    places, losses = [], []
    for step in range(STEPS):
        share = slice(rank * IMAGES // ranks, (rank + 1) * IMAGES // ranks)
        batch = {name: tensor[share] for name, tensor in batch_of(step, classes, target).items()}
        terms, _ = training.train_step(state, span, step, batch)
        losses.append(float(terms["loss"]))
        places.append(torch.cat([p.detach().flatten() for p in distiller.parameters()]))
    return places, losses


@pytest.mark.parametrize(("term", "classes"), CASES)
def test_a_step_in_parts_is_the_step_of_the_whole_batch(term, classes):
    whole, losses = train_steps(term, classes, accumulate=1)
    assert not torch.equal(whole[0], whole[-1])
    for parts in (2, 4):
        found, others = train_steps(term, classes, accumulate=parts)
        far = [float((a - b).abs().max()) for a, b in zip(whole, found, strict=True)]
        assert max(far) < 1e-6, (term, classes, parts, far)
        assert others == pytest.approx(losses, rel=1e-5)


def main(rank: int, folder: Path) -> None:
    """One of two processes, each of which takes its half of every batch in two parts."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}
    os.environ["OMP_NUM_THREADS"] = "1"  # Accelerate takes it for the threads of a process
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    found = {case: train_steps(*case, accumulate=2, rank=rank, ranks=2)[0] for case in SHARED}
    if rank == 0:
        torch.save([found[case] for case in SHARED], folder / "steps.pt")
    torch.distributed.barrier()
    os._exit(0)  # gloo's own threads now and then abort a process that takes its connections down


def test_two_processes_exchange_gradients_once_a_step_and_end_where_one_does(tmp_path):
    found_by = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [[sys.executable, __file__, str(rank), str(tmp_path)] for rank in range(2)]
    started = [subprocess.Popen(command, env=found_by) for command in words]
    assert [process.wait() for process in started] == [0, 0]
    for case, found in zip(SHARED, torch.load(tmp_path / "steps.pt"), strict=True):
        whole, _ = train_steps(*case, accumulate=1)
        far = [float((a - b).abs().max()) for a, b in zip(whole, found, strict=True)]
        assert max(far) < 1e-6, (case, far)


def test_a_killed_training_in_parts_continues_bit_identical(features, tmp_path, monkeypatch, caplog):
    recipe = recipe_of(features)
    recipe = replace(recipe, optimiser=replace(recipe.optimiser, accumulate=2))
    whole, killed = run_of(recipe, tmp_path / "whole"), run_of(recipe, tmp_path / "killed")
    training.train(whole)
    assert "batch norm sees 2 images, one of 2 parts of a batch" in caplog.text
    train_killed_at(7, killed, monkeypatch)
    for name, tensor in weights_of(whole).items():
        assert torch.equal(tensor, weights_of(killed)[name]), name


def test_gradients_are_clipped_and_the_average_updated_once_a_step(tmp_path):
    settings = OptimiserRecipe(batch_size=4, accumulate=4, ema=0.5, gradient_clip=0.01)
    state = build_state(plan_training(run_of(replace(recipe_of(), optimiser=settings), tmp_path)))
    training.begin_stage(state, state.plan.spans[0])
    batch = next(iter(training.load_batches(state, state.plan.spans[0])))
    norms = []
    state.optimiser.optimizer.register_step_pre_hook(
        lambda *_: norms.append(float(torch.stack([p.grad.norm() for p in state.student.parameters()]).norm()))
    )
    training.train_step(state, state.plan.spans[0], 0, batch)
    assert norms == [pytest.approx(0.01, rel=1e-3)]
    assert int(state.average.n_averaged) == 1


def test_parts_that_a_batch_cannot_have_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"accumulate is 3, but must be a divisor of optimiser.batch_size \(16\)"):
        OptimiserRecipe(accumulate=3)
    settings = OptimiserRecipe(batch_size=12, accumulate=3)  # of the 8 training images, a batch has all
    with pytest.raises(ValueError, match=r"has 8 images for each process, but must be a multiple of the 3 parts"):
        check_shares(run_of(replace(recipe_of(), optimiser=settings), tmp_path))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]), Path(sys.argv[2]))
