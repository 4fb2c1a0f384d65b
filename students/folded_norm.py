"""Batch norms that an export has folded into convolutions, made trainable again without changing the network.

Converters for devices (TensorFlow Lite, int8) multiply a batch norm into the convolution before it. In a file with
timm's names, such a norm is left with mean 0, variance 1 and a bias. The network is correct as it is, but a training
step would divide activations by the deviation of their batch, which the bias and the next layer do not expect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn


def folded_norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    """The batch norms of a network without statistics of data: mean 0 and variance 1 in every channel."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d) and module.affine]
    return [norm for norm in norms if bool((_mean(norm) == 0).all() and (_variance(norm) == 1).all())]


@torch.no_grad()
def unfold(norms: Iterable[nn.BatchNorm2d], run: Callable[[Tensor], object], images: Iterable[Tensor]) -> None:
    """Gives batch norms the statistics of images, and weights and biases that leave their output unchanged.

    Without images nothing changes.

    Args:
        norms: the norms, of one network in eval mode; changed in place.
        run: that network.
        images: batches (n, 3, H, W) that `run` takes.
    """
    sums = {norm: torch.zeros(3, norm.num_features, dtype=torch.float64) for norm in norms}

    def watch(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].transpose(0, 1).flatten(1).double().cpu()
        counts = torch.full((len(values),), values.shape[1], dtype=torch.float64)
        assert isinstance(norm, nn.BatchNorm2d)
        sums[norm] += torch.stack([counts, values.sum(1), values.square().sum(1)])

    hooks = [norm.register_forward_pre_hook(watch) for norm in sums]
    for batch in images:
        run(batch)
    for hook in hooks:
        hook.remove()
    for norm, (count, total, squares) in sums.items():
        if bool((count > 0).all()):
            mean = (total / count).to(norm.weight)
            _set_statistics(norm, mean, (squares / count - (total / count).square()).clamp(min=0).to(norm.weight))


def _set_statistics(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """Replaces the statistics (C,); in eval mode w (x - m) / sqrt(v + eps) + b stays the same function of x."""
    slope = norm.weight / (_variance(norm) + norm.eps).sqrt()
    norm.bias.add_(slope * (mean - _mean(norm)))
    norm.weight.copy_(slope * (variance + norm.eps).sqrt())
    _mean(norm).copy_(mean)
    _variance(norm).copy_(variance)


def _mean(norm: nn.BatchNorm2d) -> Tensor:
    """The running mean (C,)."""
    assert norm.running_mean is not None
    return norm.running_mean


def _variance(norm: nn.BatchNorm2d) -> Tensor:
    """The running variance (C,)."""
    assert norm.running_var is not None
    return norm.running_var
