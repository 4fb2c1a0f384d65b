"""Words and files that no user means: reading a recipe answers with a recipe, or with a sentence."""

from __future__ import annotations

import os
import random

import pytest
import yaml

import recipes
from distill.config.keys import known_keys
from distill.config.parse import build_recipe, dump_recipe, read_recipe
from distill.config.renamed import RENAMED

CASES = 2500
MANY = int(os.environ.get("BANDPASS_FUZZ_CASES", "200000"))  # of the long run, `-m study`
NAMES = ("semantic", "boundary", "sam", "baseline", "distilled", "new", "a b", "é", "../x", "", "0", "null", "NAME")
VALUES = (
    "", "null", "~", "true", "on", "0", "-1", "1", "1.5", "1e3", "1e999", ".nan", "-.inf", "007", "2024-01-15", "12:30",
    "9" * 40, "9" * 5000, "x", "@x", "`", "%", "!", "!!python/object:os.system x", "!!binary x", "&a [*a]", "*a", "<<",
    "<<: 3",
    "[", "]", "{", "}", "[[", "[a", "a]", "{a", "{a: b}", "{a: {b: c}}", "{1: 2}", "{[a]: b}", "{? a : b}",
    "[1, [2, [3]]]",
    "a,b", "1,2", ",", ",,", "'", '"', "'a", '"a"', "\"a', 'b\"", "a: b", "a #b", "#", "- a", "? a", "|", ">",
    "--- a", "...",
    "${x}", "${name}", "${student.width}", "${oc.env:HOME}", "${", "$", "\\", "\x00", "\n", "a\nb", "\t", "\x85",
    "\u2028",
    "\udcff", "\U0001f600", "é", "x" * 300, "[" * 200, "{a: " * 200, "identity", "hflip", "sam_to_unet", "extract",
    "unet",
    "task", "segment", "{segment: 1}", "{segment: .nan}", "{epochs: 1, losses: {segment: 1}}",
    "{adapter: sam, weights: x}",
    "builtin", "folder", "kvasir-seg", "a:b", "a:b:c", "10%", "1/0", "/dev/null", "~nobody/x", "${arms}",
    "${stages.semantic.epochs}",
)  # fmt: skip
SIGNS = "abc01.,:=[]{}'\"\\#&*!|>%@`~-?$ \t\n\x00éñ/"


def some_key(draw):
    """A key: mostly a known one, perhaps with a part gone, doubled or spelt wrongly."""
    key = draw.choice(
        [*known_keys(), *(old.partition("=")[0] for old in RENAMED), "recipe", "extends", "stages", "arms", "a"]
    )
    parts = [draw.choice(NAMES) if part == "NAME" else part for part in key.split(".")]
    if draw.random() < 0.15:
        parts = ["arms", draw.choice(NAMES), *parts]
    if draw.random() < 0.2:
        place = draw.randrange(len(parts))
        parts[place : place + 1] = draw.choice(
            [[], [parts[place]] * 2, [some_text(draw)], [*parts[place], "x"], ["options"]]
        )
    return ".".join(parts)


def some_text(draw):
    return "".join(draw.choice(SIGNS) for _ in range(draw.randrange(12)))


def some_value(draw):
    value = draw.choice(VALUES) if draw.random() < 0.8 else some_text(draw)
    if draw.random() < 0.2:
        value = draw.choice(["[{}]", "{{a: {}}}", "{}, {}", "'{}'", "{{semantic: {}}}"]).replace("{}", value)
    return value


def some_words(draw):
    words = [f"{some_key(draw)}={some_value(draw)}" for _ in range(draw.randrange(1, 4))]
    if draw.random() < 0.1:
        words.append(some_text(draw))
    return [
        "recipe=" + ("sam_to_unet" if draw.random() < 0.9 else draw.choice([*recipes.names(), some_value(draw)])),
        *words,
    ]


def some_file(draw, text):
    """A recipe's text with parts cut out, doubled, or replaced."""
    for _ in range(draw.randrange(1, 5)):
        start = draw.randrange(len(text))
        stop = min(len(text), start + draw.randrange(30))
        text = (
            text[:start]
            + draw.choice(["", text[start:stop] * 2, some_value(draw), some_text(draw), ": ", "\n"])
            + text[stop:]
        )
    return text


def try_some(cases, seed, folder):
    """Reads so many; returns how many were recipes. Anything but the two documented errors fails."""
    draw, good = random.Random(seed), 0
    text = (recipes.FOLDER / "sam_to_unet.yaml").read_text(encoding="utf-8").partition("name:")[2]
    place = folder / "some.yaml"
    for _ in range(cases):
        words = some_words(draw)
        if draw.random() < 0.3:
            place.write_text("name:" + some_file(draw, text), encoding="utf-8", errors="surrogatepass", newline="")
            words[0] = f"recipe={place}"
        try:
            recipe = read_recipe(words)
        except (ValueError, FileNotFoundError) as error:
            told = str(error)
            assert told and len(told) < 20_000, (words, told)
            assert "omegaconf" not in told.lower() and "<class" not in told and " object at 0x" not in told, (
                words,
                told,
            )
            continue
        except BaseException:
            print(words)  # noqa: T201 - what to reproduce it by
            raise
        good += 1
        assert build_recipe(yaml.safe_load(dump_recipe(recipe))) == recipe, words
    return good


def test_nothing_but_sentences_comes_of_words_that_nobody_means(tmp_path):
    assert try_some(CASES, 0, tmp_path) > CASES / 100


@pytest.mark.study
@pytest.mark.timeout(3600)
def test_nothing_but_sentences_comes_of_many_such_words(tmp_path):
    seed = int(os.environ.get("BANDPASS_FUZZ_SEED", "1"))
    assert try_some(MANY, seed, tmp_path) > MANY / 100
