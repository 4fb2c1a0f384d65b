"""A run of a comparison: its state, and the checks that it is fair to the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from distill.config.schedule import Span, steps_of_score
from distill.data.sample import key_pairs_of
from distill.metrics.names import LOWER_IS_BETTER
from distill.runs.run import Run

Key = TypeVar("Key")


@dataclass(frozen=True)
class ArmRun:
    """One run of a comparison: an arm, a student, a seed and possibly a setting of the sweep."""

    arm: str
    student: str
    seed: int
    run: Run
    setting: str = ""
    trained: bool = False  # when the comparison was planned
    tested: bool = False

    @property
    def key(self) -> tuple[str, str, int]:
        """Arm, student and seed; one setting of each combination is compared."""
        return self.arm, self.student, self.seed

    @property
    def title(self) -> str:
        """`distilled unet seed 0`, and the setting in brackets."""
        return f"{self.arm} {self.student} seed {self.seed}" + (f" ({self.setting})" if self.setting else "")

    @property
    def span(self) -> Span:
        """The last stage of training."""
        return self.run.spans[-1]

    @property
    def steps(self) -> int:
        """Steps of training."""
        return self.span.stop

    @property
    def scored_every(self) -> int:
        """Steps between two scores on the validation images."""
        return steps_of_score(self.span, self.run.recipe)

    @property
    def test_keys(self) -> dict[str, list[tuple[str, str]]]:
        """Data set -> the keys of its test images and their masks."""
        return {name: sorted(key_pairs_of(part)) for name, part in self.run.splits.test.items()}

    @property
    def validated(self) -> float:
        """The figure by which validation chose the weights, `evaluate.select`."""
        return float(self.run.read_summary()[f"validation_{self.run.recipe.evaluate.select}"])

    def has(self, verbs: Sequence[str]) -> bool:
        """Whether `verbs` (train, evaluate) had been done when the comparison was planned."""
        return self.tested if "evaluate" in verbs else self.trained


def require_fair(first: ArmRun, other: ArmRun) -> None:
    """Raises ValueError unless two runs agree in steps, batch size, validation, test images and classes."""
    batches = [one.run.recipe.optimiser.batch_size for one in (first, other)]
    if first.steps != other.steps or batches[0] != batches[1]:
        raise ValueError(
            f"arm {other.arm!r} trains {other.steps} steps of {batches[1]} images, but arm {first.arm!r} {first.steps} "
            f"of {batches[0]}; a fair comparison needs equal steps (set stages.NAME.steps)"
        )
    if first.scored_every != other.scored_every:
        raise ValueError(
            f"arm {other.arm!r} is scored on validation every {other.scored_every} steps, but arm {first.arm!r} every "
            f"{first.scored_every}; the best of more scores is higher (evaluate.every counts epochs of labelled images)"
        )
    selects = [one.run.recipe.evaluate.select for one in (first, other)]
    if selects[0] != selects[1]:
        raise ValueError(
            f"arm {other.arm!r} keeps weights by {selects[1]} (evaluate.select), but arm {first.arm!r} by "
            f"{selects[0]}; a fair comparison needs the same figure"
        )
    if first.run.splits is not other.run.splits and first.test_keys != other.test_keys:
        raise ValueError(
            f"arm {other.arm!r} is tested on other images or masks than arm {first.arm!r}; compare equal data"
        )
    if first.run.recipe.student.classes != other.run.recipe.student.classes:
        raise ValueError(f"arms {first.arm!r} and {other.arm!r} differ in student.classes; compare equal masks")
    if other.run.recipe.evaluate.patience:
        raise ValueError("evaluate.patience ends stages early, but a fair comparison needs equal steps; set it to 0")


def require_different(runs: Sequence[ArmRun]) -> None:
    """Raises ValueError if two arms ask for the very same runs: nothing would be compared."""
    folders: dict[str, list[Path]] = {}
    for one in runs:
        folders.setdefault(one.arm, []).append(one.run.folder)
    for arm, asked in folders.items():
        if twin := next((other for other, its in folders.items() if other != arm and its == asked), None):
            raise ValueError(f"arms {arm!r} and {twin!r} are identical trainings; change one, or leave it out")


def best_of(values: Mapping[Key, float], figure: str) -> Key:
    """The key of the best value of a figure: the largest Dice or the smallest distance, for example."""
    choose = min if figure in LOWER_IS_BETTER else max
    return choose(values, key=values.__getitem__)
