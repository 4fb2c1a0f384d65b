"""The model card under names and licences that others chose: it stays the card that it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml
from small_run import small_run

from distill.evaluation.evaluate import evaluate
from distill.publishing.card import render_card
from distill.publishing.examples import Picture
from distill.publishing.markdown import block, code, plain
from distill.publishing.provenance import provenance_of

markdown_it = pytest.importorskip("markdown_it", reason="cards are read by markdown-it-py, which comes with rich")

CHECK = {
    "batches": 3,
    "sizes": {"count": 1},
    "max_difference": 1e-6,
    "dice": {"left": {"onnx": 1, "torch": 1, "images": 1}},
}
HOSTILE = [
    "<script>alert(1)</script>",
    "two\n---\nlines: [x",
    "a | b | c",
    "`code` ``` and **bold** _it_ ![x](http://e) [y](z)",
    "x" * 300,
    "# heading",
    "- item",
    "1. first",
    '"); import os; os.system("true',
    "\x1b[31mred\x00",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt; $x$ ~~gone~~ \\",
    "café_of_ours",
    "---",
]


def tokens_of(card):
    return markdown_it.MarkdownIt("gfm-like", {"linkify": False}).parse(
        card.removeprefix("---\n").split("\n---\n", 1)[1]
    )


def shape_of(card):
    """Every block of the card and every inline element but the texts."""
    return [
        (token.type, [child.type for child in token.children or [] if child.type != "text"])
        for token in tokens_of(card)
    ]


def text_of(card):
    return "\n".join(
        token.content if not token.children else "".join(child.content for child in token.children)
        for token in tokens_of(card)
    )


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    run = small_run(tmp_path_factory.mktemp("card"), data="folder", licence="mit")
    return run, evaluate(run)


def card_with(evaluated, said):
    """A card in which everything that a recipe or a data set can name is `said`."""
    run, metrics = evaluated
    recipe = replace(run.recipe, publish=replace(run.recipe.publish, licence=said, hub=said))
    recipe = replace(recipe, student=replace(recipe.student, init=said[:100]))
    object.__setattr__(recipe, "name", said)  # the schema refuses such names, which the card does not rely on
    train = tuple(replace(sample, dataset=said) for sample in run.splits.train)
    splits = replace(run.splits, train=train, notes=(said,))
    named = replace(run, recipe=recipe, splits=splits, folder=run.folder.with_name(said.replace("/", ".")[:200] or "x"))
    metrics = {**metrics, "datasets": {said: metrics["datasets"]["left"]}}
    pictures = [Picture("examples/1.png", f"{said}/{said}: Dice 0.9")]
    return render_card(named, metrics, origin=provenance_of(named), check=CHECK, pictures=pictures)


@pytest.mark.parametrize("said", HOSTILE)
def test_no_name_breaks_the_card(evaluated, said):
    ordinary, card = card_with(evaluated, "ours"), card_with(evaluated, said)
    assert shape_of(card) == shape_of(ordinary)
    assert not any(token.type.startswith("html") for token in tokens_of(card))
    front = yaml.safe_load(card.removeprefix("---\n").split("\n---\n", 1)[0])
    assert set(front) == set(yaml.safe_load(ordinary.removeprefix("---\n").split("\n---\n", 1)[0]))
    assert front["library_name"] == "bandpass"
    assert "\x1b" not in card and "\x00" not in card
    if said.isprintable():
        assert " ".join(said.split()) in text_of(card)
    for python in (token.content for token in tokens_of(card) if token.info == "python"):
        compile(python, "card", "exec")


def test_ordinary_names_are_not_escaped():
    for text in ("timm/tf_efficientnet_b0.in1k", "frame-é1: Dice 0.912, rank 1 of 5", "CC-BY-NC-4.0", "a (b); c's"):
        assert plain(text) == text
        assert code(text) == f"`{text}`"
    assert block("accelerate launch", "bash") == "```bash\naccelerate launch\n```"
    assert code("a`b") == "``a`b``"
    assert code("`b") == "`` `b ``"
    assert plain("_private_ _") == r"\_private\_ \_"
