"""Changes that another camera or hospital makes to an image: colours, focus, noise, compression, light, borders.

All changes are photometric, so cached targets stay exact. Without them, a student trained on one endoscope learns that
endoscope. Each change is drawn on its own, from (seed, epoch, sample) alone.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

STREAM = 3  # a random stream apart from that of views, crops and colours
CHANCE = 0.3  # of each change, if augment.camera is 1
LARGEST_GAMMA = 1.6
LARGEST_GAIN = 0.25  # of a colour channel: white balance
LARGEST_BLUR = 2.0  # standard deviation in pixels of a side of `BLUR_SIDE`
BLUR_SIDE = 256
LARGEST_NOISE = 0.06  # standard deviation, of pixels in [0, 1]
WORST_JPEG, BEST_JPEG = 25, 90  # quality, the latter never reached
DARKEST_CORNER = 0.7  # most light that is missing in the corners
WIDEST_BORDER = 0.06  # of the image's side, black; an ellipse also covers the corners, at most a quarter of the image
MOST_HIGHLIGHTS = 12
LARGEST_HIGHLIGHT = 0.02  # standard deviation, of the image's side
AMPLITUDE_BOX = 0.03  # half the side of the box of low frequencies whose amplitudes are mixed, of the image's side


@cache
def transforms() -> ModuleType:
    """Functions of torchvision, imported when needed: it also imports torch's compiler, which takes 1.5 s."""
    from torchvision.transforms.v2 import functional

    return functional


def change_camera(image: Tensor, share: float, random: np.random.Generator) -> Tensor:
    """A float image (3, H, W) in [0, 1] as from another camera; each change has the chance `share` times `CHANCE`."""
    for change in CHANGES:
        if random.random() < CHANCE * share:
            image = change(image, random)
    return image


def gamma(image: Tensor, random: np.random.Generator) -> Tensor:
    """Another exposure of an image (3, H, W): image ** g, g within a factor LARGEST_GAMMA of 1, even on a log scale."""
    return image.pow(LARGEST_GAMMA ** random.uniform(-1, 1))


def white_balance(image: Tensor, random: np.random.Generator) -> Tensor:
    """Each colour channel of an image (3, H, W) multiplied by a factor of its own."""
    gains = 1 + LARGEST_GAIN * random.uniform(-1, 1, size=3)
    return (image * image.new_tensor(gains).view(3, 1, 1)).clamp(0, 1)


def blur(image: Tensor, random: np.random.Generator) -> Tensor:
    """An image (3, H, W) out of focus: a Gaussian blur, the same in all directions."""
    sigma = max(0.1, LARGEST_BLUR * random.random() * min(image.shape[-2:]) / BLUR_SIDE)
    return transforms().gaussian_blur(image, kernel_size=[2 * int(np.ceil(2 * sigma)) + 1] * 2, sigma=[sigma] * 2)


def noise(image: Tensor, random: np.random.Generator) -> Tensor:
    """An image (3, H, W) with the sensor's noise, independent in each value."""
    drawn = random.standard_normal(tuple(image.shape), dtype=np.float32)
    return (image + LARGEST_NOISE * random.random() * torch.from_numpy(drawn)).clamp(0, 1)


def compress(image: Tensor, random: np.random.Generator) -> Tensor:
    """An image (3, H, W) coded as JPEG and decoded."""
    coded = (image * 255).round().byte().contiguous()
    return transforms().jpeg(coded, quality=int(random.integers(WORST_JPEG, BEST_JPEG))).float() / 255


def vignette(image: Tensor, random: np.random.Generator) -> Tensor:
    """An image (3, H, W) whose light falls off towards the corners, from a centre near the image's."""
    rows, columns = (axis - random.uniform(-0.3, 0.3) for axis in coordinates(image))
    return image * (1 - DARKEST_CORNER * random.random() * ((rows**2 + columns**2) / 2).clamp(0, 1))


def border(image: Tensor, random: np.random.Generator) -> Tensor:
    """An image (3, H, W) in a black border, rectangular to elliptic, as of many endoscopes; the mask is not changed."""
    rows, columns = (axis.abs() for axis in coordinates(image))
    height, width = 1 - 2 * WIDEST_BORDER * random.random(2)
    power = 2 ** random.uniform(1, 4)  # 2: an ellipse; 16: nearly a rectangle
    reach = 2 ** (1 / power) if random.random() < 0.5 else 1.0  # else the border runs through the corners
    return image * ((rows / height) ** power + (columns / width) ** power <= reach**power)


def highlights(image: Tensor, random: np.random.Generator) -> Tensor:
    """An image (3, H, W) with bright spots where wet tissue reflects the lamp: saturated Gaussians."""
    rows, columns = coordinates(image)
    for _ in range(int(random.integers(1, MOST_HIGHLIGHTS + 1))):
        top, left = random.uniform(-0.8, 0.8, size=2)
        high, wide = 2 * LARGEST_HIGHLIGHT * random.uniform(0.1, 1, size=2)
        spot = torch.exp(-(((rows - top) / high) ** 2) / 2) * torch.exp(-(((columns - left) / wide) ** 2) / 2)
        image = image + (2 * spot).clamp(max=1)  # a flat top, as of a saturated sensor
    return image.clamp(0, 1)


CHANGES = (gamma, white_balance, highlights, vignette, blur, noise, compress, border)


def coordinates(image: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (H, 1) and columns (1, W) of an image's pixels, from -1 to 1."""
    height, width = image.shape[-2:]
    return torch.linspace(-1, 1, height).view(-1, 1), torch.linspace(-1, 1, width).view(1, -1)


def mix_amplitudes(image: Tensor, other: Tensor, share: float) -> Tensor:
    """An image whose low-frequency amplitudes are partly another image's; its phases, and so its shapes, stay.

    Fourier domain adaptation (Yang and Soatto 2020), mixed as by Xu et al. (2021).

    Args:
        image: (3, H, W) in [0, 1].
        other: of the same shape; its colours and illumination are taken.
        share: of the other's amplitudes, from 0 to 1.
    """
    spectrum, donor = torch.fft.rfft2(image), torch.fft.rfft2(other)
    height, width = image.shape[-2:]
    rows, columns = max(1, round(AMPLITUDE_BOX * height)), max(1, round(AMPLITUDE_BOX * width))
    for part in (slice(0, rows + 1), slice(height - rows, height)):
        box = spectrum[:, part, : columns + 1]
        amplitude = box.abs()
        mixed = (1 - share) * amplitude + share * donor[:, part, : columns + 1].abs()
        spectrum[:, part, : columns + 1] = box * (mixed / amplitude.clamp(min=1e-12))
    return torch.fft.irfft2(spectrum, s=(height, width)).clamp(0, 1)
