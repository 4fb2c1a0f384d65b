"""Losses over several processes: the mean of their values and gradients is that of one process with the whole batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from distill.config.registry import MASK_LOSSES, TASK_LOSSES

STEPS, IMAGES, SIDE = 12, 8, 16
CASES = [(name, classes) for name in (*TASK_LOSSES, *MASK_LOSSES) for classes in (1, 3)]


def batch_of(step: int, classes: int) -> dict[str, torch.Tensor]:
    """Images, masks with unknown pixels and images, small and large objects, and a teacher's soft mask."""
    random = torch.Generator().manual_seed(step)
    y = torch.arange(SIDE)
    masks = []
    for image in range(IMAGES):
        radius = 2 + (image * 5 + step) % (SIDE // 2)
        disc = (y[:, None] - SIDE // 2) ** 2 + (y - SIDE // 2) ** 2 < radius**2
        mask = disc.long() * (1 + image % max(1, classes - 1))
        mask[: SIDE * (image % 8) // 8] = 255
        masks.append(torch.full_like(mask, 255) if image == 5 else mask)
    return {
        "image": torch.randn(IMAGES, 3, SIDE, SIDE, generator=random, dtype=torch.float64),
        "mask": torch.stack(masks),
        "soft": torch.randn(IMAGES, *[classes] * (classes > 1), SIDE, SIDE, generator=random, dtype=torch.float64),
    }


def train_steps(name: str, classes: int, *, rank: int, ranks: int, parts: int = 1) -> list[torch.Tensor]:
    """The weights of a small network after every step, trained on this rank's share of each batch, taken in parts."""
    from torch import distributed

    from distill.distillation.criterion import loss_function
    from distill.distillation.whole_batch import divided_by, divisors_of

    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Tanh(), torch.nn.Conv2d(4, classes, 3, padding=1)
    ).double()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05)
    places = []
    for step in range(STEPS):
        part = slice(rank * IMAGES // ranks, (rank + 1) * IMAGES // ranks)
        batch = {key: value[part] for key, value in batch_of(step, classes).items()}
        pieces = [{key: value[place::parts] for key, value in batch.items()} for place in range(parts)]
        term, masks = loss_function(name), [piece["mask"] for piece in pieces]
        divisors = None
        if parts > 1 and name in TASK_LOSSES:
            divisors = divisors_of(lambda mask: term(torch.zeros(len(mask), classes, SIDE, SIDE), mask), masks)  # noqa: B023
        optimiser.zero_grad()
        for piece in pieces:
            truth = (piece["mask"], piece["soft"]) if name in MASK_LOSSES else (piece["mask"],)
            with divided_by(divisors):
                (term(network(piece["image"]), *truth) / parts).backward()
        for parameter in network.parameters() if ranks > 1 else ():
            distributed.all_reduce(parameter.grad)
            parameter.grad /= ranks
        optimiser.step()
        places.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
    return places


def main(rank: int, ranks: int, parts: int, folder: Path) -> None:
    """One of several processes: writes the weights of every case after every step."""
    from torch import distributed

    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=ranks)
    found = {
        f"{name} {classes}": train_steps(name, classes, rank=rank, ranks=ranks, parts=parts) for name, classes in CASES
    }
    if rank == 0:
        torch.save(found, folder / "steps.pt")
    distributed.barrier()
    os._exit(0)  # gloo's own threads now and then abort a process that takes its connections down


@pytest.mark.parametrize(("ranks", "parts"), [(2, 1), (4, 1), (2, 2)])
def test_training_does_not_depend_on_the_number_of_processes(tmp_path, ranks, parts):
    torch.set_num_threads(1)
    words = [str(ranks), str(parts), str(tmp_path)]
    started = [subprocess.Popen([sys.executable, __file__, str(rank), *words]) for rank in range(ranks)]
    assert [process.wait() for process in started] == [0] * ranks
    found = torch.load(tmp_path / "steps.pt")
    for name, classes in CASES:
        alone = train_steps(name, classes, rank=0, ranks=1)
        far = [float((a - b).abs().max()) for a, b in zip(alone, found[f"{name} {classes}"], strict=True)]
        assert max(far) < 1e-6, (name, classes, max(far))
        assert not torch.equal(alone[0], alone[-1])


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
