"""The Language Confusion Benchmark's rules: which lines count, what fails, and how rates are averaged."""

from __future__ import annotations

import string
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailmark.errors import ConfigError, DataError
from tailmark.evaluate.suite import passes as rules
from tailmark.evaluate.suite.passes import PassChecker, Passes, fasttext_identifier, own_identifier, pass_rates, read_words, words_of

FRENCH = "Le port restait calme ce matin et les bateaux attendaient."
ENGLISH = "The harbour was quiet this morning and the boats waited."
RUSSIAN = "Сегодня утром в гавани было тихо и лодки ждали."
CHINESE = "今天早上港口很安静，这些船只都在等待雾气散去，然后我们的渔民才能出发。"
JAPANESE = "今朝の港は静かで、船は霧が晴れるのを待っていました。"
KOREAN = "오늘 아침 항구는 조용했고 배들은 안개가 걷히기를 기다렸다."
ARABIC = "كان الميناء هادئا هذا الصباح وكانت القوارب تنتظر انقشاع الضباب."
SENTENCES = {"fr": FRENCH, "en": ENGLISH, "ru": RUSSIAN, "zh": CHINESE, "ja": JAPANESE, "ko": KOREAN, "ar": ARABIC}
checker = PassChecker(own_identifier)


@pytest.mark.parametrize("code", SENTENCES)
def test_an_answer_in_the_language_passes_and_in_another_fails(code: str) -> None:
    other = "fr" if code == "en" else "en"
    assert checker.passes(SENTENCES[code], code).line is True
    assert checker.passes(SENTENCES[other], code) == Passes(False, None)
    assert checker.passes(f"{SENTENCES[code]}\n{SENTENCES[other]}", code) == Passes(False, None)


@pytest.mark.parametrize(
    ("text", "code", "expected"),
    [
        ("", "fr", Passes(None, None)),
        ("Bonjour à vous tous", "fr", Passes(None, None)),  # four words
        (f"{FRENCH}\nYes, of course", "fr", Passes(True, None)),  # a short line does not count
        (f"{FRENCH}\nQ: {ENGLISH}", "fr", Passes(True, None)),  # a question the model asks itself is cut off
        (f"{FRENCH}\n— — — — — — —", "fr", Passes(True, None)),  # marks are no words
        (RUSSIAN, "ru", Passes(True, True)),
        (RUSSIAN.replace("лодки", "boats"), "ru", Passes(True, False)),
        (RUSSIAN.replace("лодки", "NATO"), "ru", Passes(True, True)),  # a name is no English word
        (RUSSIAN.replace("лодки", "cat"), "ru", Passes(True, True)),  # three letters may be anything
        (CHINESE.replace("船只", " boats "), "zh", Passes(True, False)),
        (JAPANESE.replace("船", "boats"), "ja", Passes(True, False)),
    ],
)
def test_the_rules(text: str, code: str, expected: Passes) -> None:
    assert checker.passes(text, code) == expected


def test_a_list_says_which_words_are_english(tmp_path: Path) -> None:
    (tmp_path / "words").write_text("boats\nAndroid\ncat\n", encoding="utf-8")
    words = read_words(tmp_path / "words")
    assert words == {"boats"}
    listed = PassChecker(own_identifier, words)
    assert listed.passes(RUSSIAN.replace("лодки", "kubernetes"), "ru").word is True
    assert checker.passes(RUSSIAN.replace("лодки", "kubernetes"), "ru").word is False
    with pytest.raises(DataError, match="English words"):
        read_words(tmp_path / "none")


def test_words_in_scripts_without_blanks() -> None:
    assert words_of("船只都在等待 boats 2024", "zh") == ["船只", "都在", "等待", "boats", "2024"]
    assert len(words_of(JAPANESE, "ja")) > 10
    assert words_of("a b  c", "en") == ["a", "b", "c"]


@given(st.text(alphabet=st.sampled_from(string.ascii_letters + string.punctuation + " \n—،#"), max_size=80))
def test_marks_leave_what_the_benchmark_leaves(text: str) -> None:
    """Its own steps, one after the other."""
    expected = text.split("\nQ:")[0].strip()
    for mark in string.punctuation:
        expected = expected.replace(mark, "")
    expected = expected.replace("—", " ").replace("،", "").replace("#", "")
    assert rules._lines(text) == expected.split("\n")


def test_rates_are_averaged_over_languages_and_sources() -> None:
    """By hand, with the benchmark's own example and two more cells."""
    graded = [
        ("okapi", "fr", Passes(True, None)),
        ("okapi", "fr", Passes(False, None)),
        ("okapi", "fr", Passes(None, None)),
        ("okapi", "ru", Passes(True, True)),
        ("okapi", "ru", Passes(True, False)),
        ("okapi", "ru", Passes(False, None)),
        ("aya", "ru", Passes(True, True)),
    ]
    rates = pass_rates(graded)
    assert rates["okapi/fr"] == {"line": 0.5}
    assert rates["okapi/ru"] == {"line": pytest.approx(2 / 3), "word": 0.5}
    assert rates["aya/ru"] == {"line": 1.0, "word": 1.0}
    assert rates["okapi/all"] == {"line": pytest.approx(7 / 12, abs=1e-6), "word": 0.5}
    assert rates["all/ru"] == {"line": pytest.approx(5 / 6, abs=1e-6), "word": 0.75}
    assert rates["all/all"] == {"line": pytest.approx(2 / 3, abs=1e-6), "word": 0.75}


@pytest.mark.skipif(find_spec("fasttext") is None, reason="requirements-language.txt is not installed")
def test_the_benchmarks_own_identifier_says_the_same_of_clear_lines() -> None:
    assert {code: fasttext_identifier(text) for code, text in SENTENCES.items()} == {code: code for code in SENTENCES}


def test_without_it_the_way_to_install_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "find_spec", lambda _name: None)
    rules._lid.cache_clear()
    with pytest.raises(ConfigError, match=r"requirements-language\.txt"):
        fasttext_identifier(FRENCH)
