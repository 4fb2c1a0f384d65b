"""Divisors of loss terms over a whole batch, for any distribution of its images over processes and parts of a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, distributed

_answer: ContextVar[Callable[[Tensor], Tensor] | None] = ContextVar("answer", default=None)  # to `count_of_all`


def count_of_all(count: Tensor) -> Tensor:
    """The divisor of a sum over this process's images for a scalar count: its mean over processes, at least 1 in total.

    The mean over processes of such quotients, and of their gradients, is the quotient over the whole batch, however its
    images are distributed. All processes must call this together. With one process it is the count itself. If a step
    takes its batch in parts, it is the mean over these too; a count must therefore depend on masks only, not on logits.
    """
    answer = _answer.get()
    return mean_over_shares(count) if answer is None else answer(count)


def mean_over_shares(count: Tensor, *, parts: int = 1) -> Tensor:
    """The mean of a scalar count over processes and parts, at least 1 in total; `count` is the sum over own parts."""
    ranks = 1
    if distributed.is_available() and distributed.is_initialized():
        ranks = distributed.get_world_size()
    if ranks * parts == 1:
        return count.clamp(min=1)
    total = count.detach().clone()
    if ranks > 1:
        distributed.all_reduce(total)
    return total.clamp(min=1) / (ranks * parts)


@contextmanager
def answering(answer: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Makes `count_of_all` return `answer(count)`, a scalar, within the context."""
    token = _answer.set(answer)
    try:
        yield
    finally:
        _answer.reset(token)


def divisors_of(term: Callable[[Tensor], Tensor], masks: Sequence[Tensor]) -> list[Tensor]:
    """The scalar divisors that a term asks for, in its order, over all parts of a batch.

    Args:
        term: a function of a mask (N, H, W); its value is not used.
        masks: of all parts of this process's share.
    """
    asked: list[list[Tensor]] = []
    for mask in masks:
        counts: list[Tensor] = []

        def note(count: Tensor, counts: list[Tensor] = counts) -> Tensor:
            counts.append(count)
            return count.clamp(min=1)

        with torch.no_grad(), answering(note):
            term(mask)
        asked.append(counts)
    return [mean_over_shares(torch.stack(counts).sum(), parts=len(masks)) for counts in zip(*asked, strict=True)]


@contextmanager
def divided_by(divisors: Sequence[Tensor] | None) -> Iterator[None]:
    """Makes `count_of_all` return these scalar divisors one after the other; None leaves it unchanged."""
    if divisors is None:
        yield
        return
    left = iter(divisors)
    with answering(lambda _: next(left)):
        yield
