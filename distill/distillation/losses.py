"""Loss terms, each a pure function of the student's output and the truth or the teacher's output.

Logits are (N, K, H, W); masks are (N, H, W) integers, 255 where ignored. With K = 1 the only class is
foreground under a sigmoid; with K > 1 class 0 is background under a softmax. No term has a gradient for its target.
Class weights weigh each pixel by its class; in `dice` they weigh the score of each class.

Every process of a run, and every part of a step, has the same number of images of a batch, so means over images can be
averaged. Sums over quantities that differ between images, such as labelled pixels, are divided by `count_of_all`.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional

from distill.distillation.whole_batch import count_of_all
from distill.metrics.overlap import IGNORED

CONTOUR_REACH = 15 / 352  # of the image's side: how far the structure loss looks for a contour


def class_targets(logits: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """One-hot truth (N, K, H, W) and validity (N, 1, H, W), both float32, for logits of K channels."""
    valid = mask != IGNORED
    if logits.shape[1] == 1:
        truth = (mask > 0)[:, None]
    else:
        truth = functional.one_hot(torch.where(valid, mask, 0).long(), logits.shape[1]).movedim(-1, 1)
    return truth.float(), valid[:, None].float()


def pixel_cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of each pixel (N, H, W): binary for one class, softmax for several; 0 where ignored."""
    if logits.shape[1] == 1:
        truth, valid = class_targets(logits, mask)
        entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        return (entropy * valid)[:, 0]
    return functional.cross_entropy(logits, mask.long(), ignore_index=IGNORED, reduction="none")


def pixel_weights(mask: Tensor, class_weights: Tensor) -> Tensor:
    """The weight of each pixel's class (N, H, W), float32; 0 where ignored.

    Args:
        mask: (N, H, W).
        class_weights: one per class (K,), background first; (2,) for one class, all numbers but 0 being foreground.
    """
    valid = mask != IGNORED
    return class_weights[torch.where(valid, mask, 0).long().clamp(max=len(class_weights) - 1)] * valid


def segment(logits: Tensor, mask: Tensor, *, class_weights: Tensor | None = None) -> Tensor:
    """`cross_entropy` + `dice` of logits (N, K, H, W); images without labelled pixels do not count."""
    logits = logits.float()  # once here, so that both gradients are added before they are rounded
    weighted = {"class_weights": class_weights}
    return cross_entropy(logits, mask, **weighted) + dice(logits, mask, **weighted)


def cross_entropy(logits: Tensor, mask: Tensor, *, class_weights: Tensor | None = None) -> Tensor:
    """The mean cross-entropy of logits (N, K, H, W) over labelled pixels: binary for one class, softmax for several."""
    logits = logits.float()
    entropy = pixel_cross_entropy(logits, mask)
    if class_weights is not None:
        weight = pixel_weights(mask, class_weights)
        return (weight * entropy).sum() / count_of_all(weight.sum())
    return entropy.sum() / count_of_all(class_targets(logits, mask)[1].sum())


def dice(logits: Tensor, mask: Tensor, *, class_weights: Tensor | None = None) -> Tensor:
    """Soft Dice loss (Milletari et al. 2016, V-Net) of logits (N, K, H, W), smoothed by 1, per image and class; the
    mean over labelled images.
    """
    logits = logits.float()
    truth, valid = class_targets(logits, mask)
    probability = (logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)) * valid
    truth = truth * valid
    overlap = (probability * truth).sum(dim=(2, 3))
    score = (2 * overlap + 1) / (probability.sum(dim=(2, 3)) + truth.sum(dim=(2, 3)) + 1)
    labelled = share_of_classes(valid, score, class_weights)
    return ((1 - score) * labelled).sum() / count_of_all(labelled.sum())


def share_of_classes(valid: Tensor, scores: Tensor, class_weights: Tensor | None) -> Tensor:
    """The weights (N, K) for averaging scores over images and classes: 0 if nothing is labelled, else 1.

    With several classes and class weights, the class weights replace the 1.
    """
    labelled = valid.amax(dim=(2, 3)).expand_as(scores)
    return labelled if class_weights is None or scores.shape[1] == 1 else labelled * class_weights


def contour_band(mask: Tensor, *, width: int) -> Tensor:
    """Pixels (N, H, W) bool within `width` pixels of a border between classes: where a max and a min filter disagree.

    The edge of an ignored area does not count as a border.
    """
    unknown, values = (mask == IGNORED)[:, None], mask[:, None].float()
    side = 2 * width + 1
    high = functional.max_pool2d(values.masked_fill(unknown, -1), side, stride=1, padding=width)
    low = -functional.max_pool2d(-values.masked_fill(unknown, IGNORED), side, stride=1, padding=width)
    return (high > low)[:, 0]


def boundary(logits: Tensor, mask: Tensor, *, class_weights: Tensor | None = None) -> Tensor:
    """Cross-entropy of logits (N, K, H, W), half its mean over the contour band and half its mean over the body.

    In a mean over all pixels the contour would weigh as its share of the area, a few per cent; here it weighs half. The
    band reaches 1/64 of the image's side to both sides of a contour. An image without a contour counts as body alone.
    The split is that of BPKD (Liu et al. 2023), which distils edge and body separately; here it is of the true mask.
    """
    entropy = pixel_cross_entropy(logits.float(), mask)
    valid = mask != IGNORED
    band = contour_band(mask, width=max(1, round(mask.shape[-1] / 64))) & valid
    areas: tuple[Tensor, Tensor] = (band, ~band & valid)
    if class_weights is not None:
        areas = (band * pixel_weights(mask, class_weights), ~band * pixel_weights(mask, class_weights))
    parts = [(entropy * area).sum() / count_of_all(area.sum()) for area in areas]
    return 0.5 * (parts[0] + parts[1])


def structure(logits: Tensor, mask: Tensor, *, class_weights: Tensor | None = None) -> Tensor:
    """The structure loss of F3Net and PraNet for logits (N, K, H, W): cross-entropy and soft IoU, weighted to contours.

    A pixel weighs 1 + 5 |mean of the truth around it - the truth|. The mean is over 31 x 31 pixels at 352 px a side,
    and over the same share of the image at other sizes. Each part is computed per image (and class) and averaged. The
    weight of the cross-entropy, which PraNet's published code loses (`reduce='none'` makes it a plain mean), is kept.

    Wei et al. 2020 (F3Net), Fan et al. 2020 (PraNet).
    """
    logits = logits.float()
    truth, valid = class_targets(logits, mask)
    truth = truth * valid
    reach = max(1, round(mask.shape[-1] * CONTOUR_REACH))
    around = functional.avg_pool2d(truth, 2 * reach + 1, stride=1, padding=reach)
    weight = (1 + 5 * (around - truth).abs()) * valid
    if class_weights is not None:
        weight = weight * pixel_weights(mask, class_weights)[:, None]
    entropy = pixel_cross_entropy(logits, mask)[:, None]
    total = weight.sum(dim=(2, 3)).clamp(min=1)
    weighted = (weight * entropy).sum(dim=(2, 3)) / total
    probability = logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)
    overlap = (probability * truth * weight).sum(dim=(2, 3))
    union = ((probability + truth) * weight).sum(dim=(2, 3)) - overlap
    labelled = valid.amax(dim=(2, 3)).expand_as(union)
    parts = weighted + 1 - (overlap + 1) / (union + 1)
    return (parts * labelled).sum() / count_of_all(labelled.sum())


def imitate_mask(logits: Tensor, mask: Tensor, soft: Tensor, *, temperature: float = 1.0) -> Tensor:
    """KL divergence from the teacher's soft mask to the student's, where the teacher is trusted.

    A labelled pixel counts if the teacher errs less than the student there (as in HeteroAKD, which trusts the teacher
    where it is better); other pixels are weighted by the teacher's confidence |2 p - 1|. The mean is over all pixels,
    so the term fades as the student overtakes its teacher. No gradient reaches the teacher's logits.

    Args:
        logits: the student's, (N, K, H, W).
        mask: (N, H, W), 255 where ignored.
        soft: the teacher's logits at the same pixels, (N, H, W) for one class, (N, K, H, W) for several.
        temperature: divides the logits of both; the term is multiplied by its square, so that gradients keep their size
            (Hinton et al. 2015). Which of the two is trusted does not depend on it.
    """
    if logits.shape[1] > 1:
        return _imitate_classes(logits.float(), mask, soft.detach().float(), temperature=temperature)
    logits, soft = logits.float()[:, 0], soft.detach().float()
    teacher, student = soft.sigmoid(), logits.detach().sigmoid()
    truth = (mask > 0).float()
    better = ((teacher - truth).abs() < (student - truth).abs()).float()
    weight = torch.where(mask == IGNORED, (2 * teacher - 1).abs(), better)
    logits, soft = logits / temperature, soft / temperature
    wanted = soft.sigmoid()
    divergence = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    divergence = divergence - functional.binary_cross_entropy_with_logits(soft, wanted, reduction="none")
    return temperature**2 * (weight * divergence).mean()


def _imitate_classes(logits: Tensor, mask: Tensor, soft: Tensor, *, temperature: float) -> Tensor:
    """`imitate_mask` of logits (N, K, H, W) under a softmax.

    Confidence is the largest probability, scaled from 1 / K..1 to 0..1.
    """
    classes, valid = logits.shape[1], mask != IGNORED
    teacher, student = soft.softmax(dim=1), logits.detach().softmax(dim=1)
    true = torch.where(valid, mask, 0).long()[:, None]
    better = (teacher.gather(1, true) > student.gather(1, true))[:, 0].float()
    weight = torch.where(valid, better, (classes * teacher.amax(dim=1) - 1) / (classes - 1))
    said, wanted = ((one / temperature).log_softmax(dim=1) for one in (logits, soft))
    divergence = functional.kl_div(said, wanted, reduction="none", log_target=True).sum(dim=1)
    return temperature**2 * (weight * divergence).mean()


def imitate_mask_mse(logits: Tensor, mask: Tensor, soft: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Mean squared error between probabilities (N, K, H, W) and the teacher's, over all pixels; arguments as above.

    It is the one part of MicroAUNet's published imitation (arXiv 2511.01143, `train.py`) that has a gradient: its KL
    divergence runs over a single channel, and its features are passed one argument too early.
    """
    del mask
    logits, soft = logits.float() / temperature, soft.detach().float() / temperature
    if logits.shape[1] == 1:
        return functional.mse_loss(logits[:, 0].sigmoid(), soft.sigmoid())
    return functional.mse_loss(logits.softmax(dim=1), soft.softmax(dim=1))


def weight_norm(parameters: Iterable[Tensor]) -> Tensor:
    """The sum of the (unsquared) norms of the student's tensors, a scalar, as in MicroAUNet's published second stage.

    Unlike with weight decay, the pull on a tensor does not fade as the tensor becomes small.
    """
    return torch.stack([torch.linalg.vector_norm(parameter.float()) for parameter in parameters]).sum()


def imitate_features(projected: Tensor, target: Tensor, *, deviation: float = 1.0) -> Tensor:
    """0.9 (1 - cosine over channels) + 0.1 smooth L1 (Theia, Shang et al. 2024), on the low band or on both at once.

    Args:
        projected: the student's projected features, (N, C, h, w).
        target: the teacher's band, or both bands as far as this grid holds them, in principal components of mean
            variance 1, (N, C, h, w).
        deviation: not used, because the low band holds most of that variance.
    """
    del deviation
    projected, target = projected.float(), target.detach().float()
    cosine = functional.cosine_similarity(projected, target, dim=1, eps=1e-6).mean()
    return 0.9 * (1 - cosine) + 0.1 * functional.smooth_l1_loss(projected, target)


def imitate_mse(projected: Tensor, target: Tensor, *, deviation: float = 1.0) -> Tensor:
    """Mean squared error on a band (N, C, h, w), or on both at once, in units of its variance; arguments as above.

    EdgeSAM (Zhou et al. 2023) distils features with it, Polyp-DiFoM (2512.09307) each band, both without these units.
    """
    return functional.mse_loss(projected.float(), target.detach().float() / deviation)


def imitate_high(projected: Tensor, target: Tensor, *, deviation: float) -> Tensor:
    """Smooth L1 on the high band in units of its own deviation; where the target is flat, a cosine would be noise.

    FreeKD (Zhang et al. 2024) uses L1 on the high bands of a Haar transform; here the cosine series takes its place.

    Args:
        projected: the student's projected features, (N, C, h, w), already in those units.
        target: the teacher's high band on the same grid, (N, C, h, w).
        deviation: root mean square of that band over training images (`Codec.band_deviation["high"]`).
    """
    return functional.smooth_l1_loss(projected.float(), target.detach().float() / deviation)
