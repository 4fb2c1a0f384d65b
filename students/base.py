"""The base class of students: encoder, decoder, head, and a declared feature pyramid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import PyTorchModelHubMixin
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

MEAN = (0.485, 0.456, 0.406)  # ImageNet's statistics of RGB in [0, 1], with which every student's input is normalised
STD = (0.229, 0.224, 0.225)


class Student(nn.Module, PyTorchModelHubMixin):
    """A light segmentation network.

    Subclasses have the submodules `encoder`, `decoder` and `head`, which training stages freeze by name, and declare

    * `channels`, `strides`: one entry for each map that `features` returns, finest first;
    * `classes`: channels of the logits; 1 means one foreground class under a sigmoid.

    Images are float32 (N, 3, H, W), normalised with the ImageNet statistics, of any size.
    """

    encoder: nn.Module
    decoder: nn.Module
    head: nn.Module
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    classes: int

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """The feature pyramid that the decoder reads: maps of shape (N, channels[i], ceil(H' / strides[i]), ...).

        H' is the padded height: by default, where the encoder makes the maps, the next multiple of the coarsest stride.
        """
        return self.encoder(padded(images, self.strides[-1]))

    def decode(self, features: tuple[Tensor, ...], size: tuple[int, int]) -> Tensor:
        """Logits (N, classes, *size) from the pyramid that `features` returned for images of `size`.

        By default head(decoder(features)), which must have the resolution of the padded image, cropped to `size`.
        """
        return self.head(self.decoder(features))[..., : size[0], : size[1]]

    def level_of(self, stride: int) -> int:
        """The index of the pyramid's map at a stride; if there are several, the deepest, most semantic one.

        Raises:
            ValueError: there is none.
        """
        if stride not in self.strides:
            raise ValueError(
                f"the student has no map of stride {stride}; choose from {', '.join(map(str, self.strides))}"
            )
        return max(level for level, own in enumerate(self.strides) if own == stride)

    def heads(self, features: tuple[Tensor, ...], size: tuple[int, int]) -> tuple[Tensor, ...]:
        """Logits (N, classes, *size) of every head that training supervises, by default those of `decode` alone.

        The task terms of a stage are averaged over them (deep supervision).
        """
        return (self.decode(features, size),)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes, H, W) for images (N, 3, H, W)."""
        size = (int(images.shape[-2]), int(images.shape[-1]))
        return self.decode(self.features(images), size)

    def load_encoder(self, weights: str | Path) -> None:
        """Puts weights into the encoder: a backbone's if it has one, or those that `export_encoder` wrote.

        Args:
            weights: a file, or "hub" for the weights that the backbone's library publishes.

        Raises:
            FileNotFoundError: there are no such weights.
            ValueError: they are not the encoder's, the file is damaged, or "hub" is given without a backbone.
        """
        fill(self.encoder, weights, student=type(self).__name__)

    def calibrate(self, images: Iterable[Tensor]) -> None:
        """Called once before the first training step with batches (n, 3, H, W) of training images; reads none here."""

    def export_encoder(self, folder: Path) -> None:
        """Writes only the trained encoder into `folder`, as encoder.safetensors, which `load_encoder` reads.

        Students on a library's backbone write that library's names or its own format.
        """
        write_encoder(self.encoder, folder)


def padded(images: Tensor, multiple: int) -> Tensor:
    """Images (N, 3, H, W) padded with zeros at the bottom and right to the next multiples of `multiple` pixels."""
    height, width = images.shape[-2:]
    return functional.pad(images, (0, -width % multiple, 0, -height % multiple))


def fill(encoder: nn.Module, weights: str | Path, *, student: str) -> None:
    """Puts the tensors of a safetensors file into an encoder of the same names and shapes; errors as in `load_encoder`.

    Args:
        encoder: filled completely or not at all.
        weights: the file.
        student: the name of the student for error messages.
    """
    if str(weights) == "hub":
        raise ValueError(
            f"student {student} has no backbone that takes pretrained weights; leave student.encoder empty, or use "
            "student.name=timm_unet"
        )
    path = Path(weights).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"no encoder of student {student} at student.encoder={weights}: expected a file such as "
            "DIR/encoder/encoder.safetensors, as publish.encoder=true writes it"
        )
    with whole(path):
        found = load_file(path)
    own = encoder.state_dict()
    wrong = [name for name in own if name not in found or found[name].shape != own[name].shape]
    wrong += sorted(found.keys() - own.keys())
    if wrong:
        raise ValueError(
            f"{path} is not an encoder of student {student} at this width: {len(wrong)} of {len(own)} "
            f"tensors are missing, left over or of another shape, the first is {wrong[0]}; give student.name and "
            "student.width of the student that it comes from"
        )
    encoder.load_state_dict(found)


@contextmanager
def whole(path: Path) -> Iterator[None]:
    """Turns the error of a damaged safetensors file, read inside, into a ValueError that names it."""
    try:
        yield
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a whole safetensors file (a git-LFS pointer, or half a download?): {error}; download it "
            "again"
        ) from error


def write_encoder(encoder: nn.Module, folder: Path) -> None:
    """Writes the tensors of an encoder as encoder.safetensors into a folder, which is created."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "encoder.safetensors"
    save_file({name: value.contiguous() for name, value in encoder.state_dict().items()}, path)
    path.chmod(0o644)  # safetensors makes files that only their owner can read; a published file is for others too
