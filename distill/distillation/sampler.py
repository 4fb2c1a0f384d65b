"""Index batches: the same images in the same order for any number of workers, processes and restarts."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from torch.utils.data import Sampler

from distill.config.schedule import steps_of_epoch


class Batches(Sampler):
    """Index batches of one rank: the order of epoch e is the permutation drawn from (seed, e).

    A global batch is cut into equal consecutive parts, one a rank, so that the union over ranks is the same for any
    number of processes. Starts at global step `start`; ends before `stop`. Of every batch, `share` images come from
    the `unlabelled` ones, whose indices follow those of the labelled `images` and which have epochs of their own.
    Where `sides` are given, each batch draws one by (seed, step), which stands third in its indices. `origin` is a
    step and the epoch that begins there, so that a stage of other batches than the last does not draw its epochs again.
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
        """The side of a step's images where sides are given, else nothing."""
        if not self.sides:
            return ()
        return (int(np.random.default_rng([self.seed, step, 2]).choice(self.sides)),)

    def part(self, indices: np.ndarray) -> np.ndarray:
        """This rank's share of the indices (n,) of a global batch."""
        return indices[self.rank * len(indices) // self.ranks : (self.rank + 1) * len(indices) // self.ranks]

    def unlabelled_at(self, place: int) -> tuple[int, int]:
        """The image at a place of the endless row of unlabelled images, permuted anew each time round."""
        epoch, position = divmod(place, self.unlabelled)
        return epoch, self.images + int(permutation(self.unlabelled, self.seed, epoch, 1)[position])


@lru_cache(maxsize=4)  # two epochs of the labelled images, and two of the others
def permutation(images: int, *stream: int) -> np.ndarray:
    """The order (images,) of so many images that a random stream draws; drawn once an epoch: a million take 24 ms."""
    order = np.random.default_rng(stream).permutation(images)
    order.flags.writeable = False
    return order
