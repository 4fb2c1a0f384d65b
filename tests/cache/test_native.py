"""The compiled loops of decoding give what Python gives, bit for bit, and are done without where they cannot be had."""

from __future__ import annotations

import logging
import shutil
import subprocess
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import numpy as np
import pytest
import torch
from coefficients import bands, falling, laplacian
from hypothesis import given, settings
from hypothesis import strategies as st

import cache
from cache import native
from cache.laplace import Laplace

SOURCE = Path(native.__file__).with_name("decode.c")


def compile_to(folder, source=SOURCE):
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        pytest.skip("needs a C compiler")
    file = folder / f"_decode{EXTENSION_SUFFIXES[0]}"
    words = ["-O3", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([compiler, *words, str(source), "-o", str(file)], check=True)
    return file


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The library, compiled anew."""
    folder = tmp_path_factory.mktemp("library")
    compile_to(folder)
    return native.load(folder)


@pytest.fixture
def use(monkeypatch):
    return lambda library: monkeypatch.setattr(native, "library", library)


def outcome(coder, code, library):
    """The integers of a code and their type, or that it is damaged."""
    native.library, before = library, native.library
    try:
        found = coder.decode(code)
        return found.dtype.name, found.tolist()
    except ValueError as error:
        return str(error)
    finally:
        native.library = before


@given(band=bands())
@settings(max_examples=200, deadline=None)
def test_compiled_integers_are_those_of_python(compiled, band):
    values, deviations = band
    one = Laplace(deviations)
    code = one.encode(values)
    assert outcome(one, code, compiled) == outcome(one, code, None)
    assert outcome(one, code, compiled)[1] == values.tolist()


@given(words=st.lists(st.integers(0, 2**32 - 1), max_size=60), count=st.integers(0, 120), high=st.floats(0.3, 1e9))
@settings(max_examples=300, deadline=None)
def test_words_that_are_no_code_end_as_in_python(compiled, words, count, high):
    one = Laplace(falling(count, high=high))
    code = np.array(words, "<u4").tobytes()
    assert outcome(one, code, compiled) == outcome(one, code, None)


def test_a_cut_or_longer_code_is_told(compiled):
    deviations = falling(500, high=60.0)
    one = Laplace(deviations)
    code = one.encode(laplacian(deviations))
    for bad in (code[:-4], code[4:], code[:-1], code + b"\1\0\0\0", code + bytes(4), bytes(len(code))):
        assert "is damaged or does not hold 500 values" in outcome(one, bad, compiled)


def test_a_decoded_map_is_that_of_python_bit_for_bit(compiled, use):
    maps = torch.randn(24, 12, 20, 20, generator=torch.Generator().manual_seed(0)).cumsum(-1).cumsum(-2)
    maps[20] *= 1e5  # integers that need 32 bits
    data = cache.fit(maps[:16], fidelity=0.95).to_bytes()
    decoded = []
    for library in (None, compiled):
        use(library)
        codec = cache.Codec.from_bytes(data)
        codes = [codec.encode(one) for one in maps[16:]]
        decoded.append([codec.coefficients(code, band) for code in codes for band in ("low", "high", "all")])
    assert all(torch.equal(python, fast) for python, fast in zip(*decoded, strict=True))


def test_a_library_of_another_version_or_none_at_all_is_not_used(tmp_path, compiled):
    assert compiled is not None and native.load(tmp_path) is None
    text, says = SOURCE.read_text(), f"(void) {{ return {native.VERSION}; }}"
    assert text.count(says) == 1
    (tmp_path / "other.c").write_text(text.replace(says, "(void) { return 999; }"))
    compile_to(tmp_path, tmp_path / "other.c")
    assert native.load(tmp_path) is None
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / f"_decode{EXTENSION_SUFFIXES[0]}").write_bytes(b"no library")
    assert native.load(tmp_path / "broken") is None


def test_decoding_in_python_is_said_once(caplog, use):
    native.say_how.cache_clear()
    use(None)
    with caplog.at_level(logging.INFO, "bandpass"):
        native.say_how()
        native.say_how()
    assert caplog.text.count("features are decoded in Python") == 1
    native.say_how.cache_clear()
