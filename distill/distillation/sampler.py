"""Index batches: the same images in the same order for any number of workers, processes and restarts."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from torch.utils.data import Sampler

from distill.config.schedule import steps_of_epoch


class Batches(Sampler):
    """Index batches of one rank: the order of epoch e is the permutation drawn from (seed, e).

    A global batch is cut into equal consecutive parts, one per rank, so the union over ranks is the same for any number
    of processes. Batches go from global step `start` to before `stop`. Of every batch, `share` images come from the
    `unlabelled` ones, whose indices follow those of the labelled `images` and which have their own epochs. If `sides`
    are given, each batch draws one by (seed, step); it is the third entry of its indices. `origin` is a step and the
    epoch that begins there, so that a stage with another batch size does not repeat the epochs of the previous one.
    """

    def __init__(
        self,
        *,
        images: int,
        batch: int,
        seed: int,
        start: int,
        stop: int,
        rank: int,
        ranks: int,
        unlabelled: int = 0,
        share: int = 0,
        sides: tuple[int, ...] = (),
        origin: tuple[int, int] = (0, 0),
    ) -> None:
        self.sides, self.origin = sides, origin
        self.images, self.unlabelled, self.seed = images, unlabelled, seed
        self.labelled, self.share = min(batch - share, images), min(share, unlabelled)
        self.start, self.stop, self.rank, self.ranks = start, stop, rank, ranks

    def __iter__(self) -> Iterator[list[tuple[int, ...]]]:
        steps = steps_of_epoch(self.images, self.labelled)
        for step in range(self.start, self.stop):
            epoch, position = divmod(step - self.origin[0], steps)
            epoch += self.origin[1]
            order = permutation(self.images, self.seed, epoch)
            chosen = self.part(order[position * self.labelled : (position + 1) * self.labelled])
            others = self.part(np.arange(step * self.share, (step + 1) * self.share))
            places = [(epoch, int(index)) for index in chosen] + [self.unlabelled_at(int(place)) for place in others]
            yield [(*place, *self.side_at(step)) for place in places]

    def side_at(self, step: int) -> tuple[int, ...]:
        """The side of a step's images if sides are given, else empty."""
        if not self.sides:
            return ()
        return (int(np.random.default_rng([self.seed, step, 2]).choice(self.sides)),)

    def part(self, indices: np.ndarray) -> np.ndarray:
        """This rank's share of the indices (n,) of a global batch."""
        return indices[self.rank * len(indices) // self.ranks : (self.rank + 1) * len(indices) // self.ranks]

    def unlabelled_at(self, place: int) -> tuple[int, int]:
        """The image at a place in the endless sequence of unlabelled images, permuted anew in each epoch."""
        epoch, position = divmod(place, self.unlabelled)
        return epoch, self.images + int(permutation(self.unlabelled, self.seed, epoch, 1)[position])


@lru_cache(maxsize=4)  # two epochs of the labelled images and two of the others
def permutation(images: int, *stream: int) -> np.ndarray:
    """The order (images,) drawn from a random stream, once per epoch; for a million images it takes 24 ms."""
    order = np.random.default_rng(stream).permutation(images)
    order.flags.writeable = False
    return order
