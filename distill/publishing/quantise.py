"""The int8 file: the quantised network, calibrated on training images; kept if it is faster and as accurate."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distill.data.sample import Sample, Splits
from distill.inference.onnx_file import Runner, open_onnx
from distill.inference.thresholds import Thresholds
from distill.metrics.overlap import overlap
from distill.publishing.onnx_check import evenly_with_both_ends
from distill.runtime.issues import several
from distill.runtime.progress import progress
from distill.runtime.timing import interleaved, work_ratio

CALIBRATION = 64  # training images, evenly spread, from which ranges of activations are taken
OPERATORS = ("Conv", "ConvTranspose", "Concat", "MaxPool", "Add")  # never a gate, a resize, a norm or a softmax
PERCENTILE = 99.99  # of an activation's values: the rarest would make the steps of all others coarse
POOLING = ("ReduceMean", "GlobalAveragePool")
LARGEST_LOSS = 0.005  # of mean Dice over the validation images
LARGEST_RATIO = (
    0.95  # of its time over that of the plain file: a smaller gain would be within the noise of the measurement
)
ROUNDS = 20

logger = logging.getLogger("bandpass")


@dataclass(frozen=True)
class Verdict:
    """Whether the quantised file is kept.

    Attributes:
        written: whether the file was kept.
        why: the reason in words.
        dice: mean Dice of the file over the validation images; None if there is no file, as are the following.
        before: mean Dice of the plain file.
        ratio: its CPU seconds over those of the plain file, for one image on one thread, median of interleaved runs.
    """

    written: bool
    why: str
    dice: float | None
    before: float | None
    ratio: float | None


def add_int8(plain: Path, splits: Splits, *, classes: int, thresholds: Thresholds) -> dict[str, Any]:
    """Writes the quantised file beside the plain one, compares the two, and removes it if it is not worth keeping.

    Args:
        plain: the exported file, such as model.onnx; the other one is then model.int8.onnx.
        splits: training images for the calibration, and validation images on which both files are scored.
        classes: channels of the network's output.
        thresholds: with which the student is served.

    Returns:
        the `Verdict`, JSON-able.
    """
    small = plain.with_suffix(".int8.onnx")
    images = evenly_with_both_ends(splits.train, CALIBRATION)
    logger.info("quantising %s on %s", small.name, several(len(images), "training image"))
    try:
        quantise(plain, small, images)
    except OSError:  # a full disk says nothing about the network
        raise
    except Exception as error:  # of ONNX Runtime's quantiser, by operator and version; the student itself is whole
        small.unlink(missing_ok=True)  # an older file
        why = (
            f"ONNX Runtime cannot quantise this network ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        )
        logger.warning("%s not written: %s", small.name, why)
        return asdict(Verdict(False, why, None, None, None))
    runners = (open_onnx(path, threads=1) for path in (plain, small))
    found = compare_files(*runners, val=splits.val, classes=classes, thresholds=thresholds)
    if not found.written:
        small.unlink()
    logger.info("%s %s: %s", small.name, "written" if found.written else "not written", found.why)
    return asdict(found)


def compare_files(
    plain: Runner, small: Runner, *, val: Sequence[Sample], classes: int, thresholds: Thresholds
) -> Verdict:
    """The verdict: whether the quantised file loses at most `LARGEST_LOSS` of Dice at its thresholds, and is faster."""
    table = []
    for sample in progress(val, what="validate the int8 file", total=len(val)):
        image, mask = sample.read_image()[None], sample.read_mask()
        found = (thresholds.mask(run(image)[0]) for run in (plain, small))
        table.append([overlap(predicted, mask, classes=classes)[0] for predicted in found])
    before, after = np.mean(table, axis=0).tolist()
    image = val[0].read_image()[None]
    actions = {"plain": lambda: plain(image), "int8": lambda: small(image)}
    spent = interleaved(actions, rounds=ROUNDS, what="time the int8 file")
    share = work_ratio(spent, "int8", "plain")
    why = f"Dice {after:.4f} on {len(val)} validation images (float32 {before:.4f}), {share:.2f} x its time"
    if before - after > LARGEST_LOSS:
        return Verdict(
            False, f"{why}; at most {100 * LARGEST_LOSS:.1f} percentage points may be lost", after, before, share
        )
    if share > LARGEST_RATIO:
        return Verdict(False, f"{why}; at most {LARGEST_RATIO} x is worth a second file", after, before, share)
    return Verdict(True, why, after, before, share)


def quantise(source: Path, target: Path, samples: Sequence[Sample]) -> None:
    """Static quantisation: int8 weights per channel, uint8 activations by the ranges that hold most of their values.

    The resizes, the normalisation, the convolutions of `kept_in_float` and everything else but `OPERATORS` stay
    float32; the metadata is kept.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    class Images(CalibrationDataReader):
        """Hands out one image after another: the interface of ONNX Runtime's calibration."""

        left: Iterator[Sample]

        def __len__(self) -> int:
            return len(samples)

        def set_range(self, start_index: int, end_index: int) -> None:
            """Restricts the images to a range."""
            self.left = iter(samples[start_index:end_index])

        def get_next(self) -> dict[str, np.ndarray] | None:
            """The next input; None after the last."""
            sample = next(self.left, None)
            return None if sample is None else {"image": np.ascontiguousarray(sample.read_image()[None])}

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it recommends preprocessing that our exporter has done
    try:
        with tempfile.TemporaryDirectory(dir=target.parent) as place, contextlib.redirect_stdout(io.StringIO()):
            made = Path(place) / target.name
            quantize_static(
                str(source),
                str(made),
                Images(),
                calibrate_method=CalibrationMethod.Percentile,
                extra_options={"CalibPercentile": PERCENTILE, "CalibStridedMinMax": 1},  # maps of one image at a time
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(OPERATORS),
                nodes_to_exclude=kept_in_float(source),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
            made.replace(target)
    finally:
        root.setLevel(level)


def kept_in_float(source: Path) -> list[str]:
    """The names of convolutions that lose too much: the first (on pixels), grouped ones, and those of pooled vectors.

    The channels of a depthwise convolution have different ranges but share one scale; the error of a gate with one
    value per channel (squeeze and excitation) is multiplied into the whole map.
    """
    import onnx

    graph = onnx.load(str(source)).graph
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    made: set[str] = set()  # tensors that nodes make; `pooled`: those of them with one value per channel
    pooled: set[str] = set()
    for node in graph.node:
        of_nodes = [name for name in node.input if name in made]
        if node.op_type in POOLING or (of_nodes and pooled.issuperset(of_nodes)):
            pooled.update(node.output)
        made.update(node.output)
    grouped = [node for node in convolutions if any(entry.name == "group" and entry.i > 1 for entry in node.attribute)]
    gates = [node for node in convolutions if node.input[0] in pooled]
    return [node.name for node in [*convolutions[:1], *grouped, *gates]]
