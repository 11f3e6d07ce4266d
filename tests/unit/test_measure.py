"""What is measured of a text: lengths, language, form, code."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st

from tailmark.measure.code import code_type, looks_like_code, prose, segments
from tailmark.measure.formats import measure_format
from tailmark.measure.language import CODES, lines_in_language, measure_language
from tailmark.measure.lengths import Lengths, length_bucket, length_steps, measure_lengths, with_bucket
from tailmark.measure.words import across_blanks, tokenizer, words_and_marks
from tailmark.taxonomy import Taxonomy, load_taxonomy

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = tuple(load_taxonomy(ROOT / "src" / "tailmark" / "taxonomy" / "paper.yaml").markers["lang"].values)
DESCRIPTIONS = ROOT.parent / "shared" / "data" / "train" / "debian_descriptions.jsonl.gz"

FENCED = "Here it is:\n\n```python\ndef area(r):\n    return 3.14 * r ** 2\n```\n\nIt returns the area."

SENTENCES = {
    "Arabic": ("مرحبا، كيف حالك؟ أنا بخير.", 8, 2),
    "Chinese": ("你好，我是学生。你呢？", 11, 2),
    "Czech": ("Dobrý den. Jak se máte?", 7, 2),
    "English": ("I don't know. Do you?", 8, 2),
    "German": ("Das ist gut. Und weiter?", 7, 2),
    "Greek": ("Τι κάνεις; Είμαι καλά.", 6, 2),
    "Hebrew": ("שלום. מה שלומך?", 5, 2),
    "Hindi": ("मैं ठीक हूँ। आप कैसे हैं?", 8, 2),
    "Japanese": ("これはペンです。元気ですか？", 9, 2),
    "Korean": ("안녕하세요. 저는 학생입니다.", 5, 2),
    "Persian": ("سلام. حال شما چطور است؟", 7, 2),
    "Polish": ("Dzień dobry. Co słychać?", 6, 2),
    "Portuguese": ("Bom dia. Como vai?", 6, 2),
    "Russian": ("Привет! Как дела?", 5, 2),
    "Spanish": ("¿Qué tal? Muy bien.", 7, 2),
    "Turkish": ("Merhaba. Nasılsın?", 4, 2),
    "Ukrainian": ("Привіт! Як справи?", 5, 2),
    "Vietnamese": ("Xin chào, tôi là sinh viên. Bạn khỏe không?", 12, 2),
}


@pytest.mark.parametrize("lang", sorted(SENTENCES))
def test_tokens_and_sentences_in_each_script(lang: str) -> None:
    text, tokens, sentences = SENTENCES[lang]
    assert measure_lengths(text, lang) == Lengths(tokens, sentences, 1)


def test_every_language_of_the_taxonomy_has_a_code() -> None:
    assert set(LANGUAGES) <= set(CODES)


def test_a_language_that_spacy_does_not_know_is_still_measured() -> None:
    assert measure_lengths("Saluton, mondo! Bonan tagon.", "Esperanto") == Lengths(7, 2, 1)
    assert measure_lengths("Hello, world! Good day.", None) == Lengths(7, 2, 1)


def test_paragraphs_are_split_at_blank_lines_only() -> None:
    assert measure_lengths("One.\nStill one.\n \t\n\nTwo.\r\n\r\nThree.\n", "English").paragraphs == 3


def test_a_sentence_never_crosses_a_paragraph() -> None:
    assert measure_lengths("no full stop\n\nand none here", "English") == Lengths(6, 2, 2)


@pytest.mark.parametrize("text", ["", " \n\t\n", "\u3000"])
def test_blank_text_measures_nothing(text: str) -> None:
    assert measure_lengths(text, "English") == Lengths(0, 0, 0)


def test_code_is_counted_alike_in_every_language() -> None:
    code = "for (int i = 0; i < n; i++) { sum += a[i]; }"
    assert measure_lengths(code, "English") == measure_lengths(code, "Japanese") == measure_lengths(code, None)
    assert measure_lengths(code, None).tokens == len(words_and_marks(code))


TRICKY = ["can't", "(don't)", "e.g.", "U.S.", "10km,", "www.a.org.", "well-known;", "$5.", ":-)", "EE. UU.", "a.m.", "word,", "«sí»"]


@settings(deadline=None)  # the first example loads models
@given(st.lists(st.sampled_from(TRICKY) | st.text(max_size=8), max_size=8).map(" ".join), st.sampled_from(["en", "es"]))
def test_words_are_those_of_spacys_own_tokenizer(text: str, code: str) -> None:
    split = tokenizer(code)
    ours = split(text) if across_blanks(split, text) else [word for chunk in text.split() for word in split(chunk)]
    assert ours == [token.text for token in _spacy(code)(text) if not token.text.isspace()]


@cache
def _spacy(code: str) -> Any:
    return spacy.blank(code).tokenizer


def test_a_japanese_text_longer_than_its_tokenizer_takes_at_once() -> None:
    assert measure_lengths("これはペンです。" * 7_000, "Japanese").sentences == 7_000


@settings(deadline=None)  # the first example loads models
@given(st.text(max_size=200), st.sampled_from(["English", "Chinese", "Korean", None]))
def test_lengths_are_whole_and_consistent(text: str, lang: str | None) -> None:
    lengths = measure_lengths(text, lang)
    assert (lengths.tokens == 0) == (lengths.sentences == 0)
    assert lengths.tokens >= lengths.sentences >= (lengths.tokens > 0)


@settings(deadline=None)  # the first example loads models
@given(st.lists(st.sampled_from(["A cat.", "Two dogs ran", "x = 1"]), min_size=1, max_size=6))
def test_joining_paragraphs_adds_their_lengths(parts: list[str]) -> None:
    single = [measure_lengths(part, None) for part in parts]
    assert measure_lengths("\n\n".join(parts), None) == Lengths(*(sum(column) for column in zip(*single, strict=True)))


@pytest.mark.parametrize(("tokens", "bucket"), [(1, "concise"), (299, "concise"), (300, "medium"), (1000, "medium"), (1001, "long")])
def test_the_bounds_of_the_buckets(tokens: int, bucket: str) -> None:
    assert length_bucket(tokens) == bucket


STEPS = Taxonomy.model_validate(
    {
        "name": "steps",
        "markers": {
            "length_tokens": {"kind": "integer", "definition": "Tokens."},
            "length_bucket": {
                "kind": "categorical",
                "definition": "Steps.",
                "values": {"few": "", "some": "", "many": ""},
                "bounds": [5, 20],
            },
        },
    }
)


@given(st.integers(0, 60))
def test_a_taxonomy_can_have_steps_of_its_own(tokens: int) -> None:
    steps = length_steps(STEPS)
    assert steps == (("few", 0), ("some", 5), ("many", 20))
    assert length_bucket(tokens, steps) == ("few" if tokens < 5 else "some" if tokens < 20 else "many")


def test_a_length_implies_its_step_unless_another_is_asked_for() -> None:
    known = ("length_bucket", "length_tokens")
    assert with_bucket({"length_tokens": 19}, STEPS, known) == {"length_tokens": 19, "length_bucket": "some"}
    assert with_bucket({"length_tokens": 19, "length_bucket": "few"}, STEPS, known) == {"length_tokens": 19, "length_bucket": "few"}
    assert with_bucket({"length_tokens": 19}, STEPS, ("length_tokens",)) == {"length_tokens": 19}
    assert with_bucket({"lang": "Dutch"}, STEPS, known) == {"lang": "Dutch"}
    lacking = STEPS.model_copy(update={"markers": {"length_tokens": STEPS.markers["length_tokens"]}})
    assert with_bucket({"length_tokens": 19}, lacking, known) == {"length_tokens": 19}


def test_segments_split_prose_from_fenced_blocks() -> None:
    assert [(part.code, part.info) for part in segments(FENCED)] == [(False, ""), (True, "python"), (False, "")]
    assert "return" not in prose(FENCED).replace("returns", "")
    assert [part.code for part in segments("```\nnever closed")] == [True]
    assert [part.text for part in segments("~~~~ js\na\n~~~\nb\n~~~~\n")] == ["a\n~~~\nb\n"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (FENCED, "python"),
        ("```c++\nint x;\n```", "cpp"),
        ("```Bash\nls\n```", "shell"),
        ("```js\na\n```\n```sql\nb\nc\n```", "sql"),
        ("```text\nnothing\n```", None),
        ("```\nnothing\n```", None),
        ("def f(): return 1", "python"),
    ],
)
def test_code_type_comes_from_the_info_string_where_there_is_one(text: str, expected: str | None) -> None:
    assert code_type(text) == expected


@pytest.mark.parametrize(
    ("text", "lang"),
    [
        ("Der Hund schläft unter dem Tisch und träumt.", "German"),
        ("Le chat dort sur la table de la cuisine.", "French"),
        ("猫在桌子上睡觉，狗在外面。", "Chinese"),
        ("猫はテーブルの上で寝ています。", "Japanese"),
        ("Кіт спить на столі, а собака надворі.", "Ukrainian"),
        ("گربه روی میز خوابیده است.", "Persian"),
    ],
)
def test_the_language_of_a_sentence(text: str, lang: str) -> None:
    found = measure_language(text, LANGUAGES)
    assert found is not None
    assert found.name == lang
    assert 0.5 <= found.confidence <= 1


@pytest.mark.parametrize(
    "text",
    [
        "", "42", "OK", "...!?", "for (int i = 0; i < n; i++) { sum += a[i]; }", "```python\nprint('hello there, world')\n```",
        "Hunden sover under bordet og drømmer om en kat, der løber gennem skoven.",
    ],
)  # fmt: skip
def test_no_language_rather_than_a_wrong_one(text: str) -> None:
    assert measure_language(text, LANGUAGES) is None


def test_only_the_taxonomys_languages_are_given() -> None:
    text = "Der Hund schläft unter dem Tisch und träumt."
    assert measure_language(text, ["English", "French", "Klingon"]) is None
    assert measure_language(text, []) is None


FRENCH = "Le chat dort sur la table de la cuisine.\nIl ne veut pas sortir quand il pleut."


@pytest.mark.parametrize(
    ("text", "lang", "passes"),
    [
        (FRENCH, "French", True),
        (FRENCH, "English", False),
        (FRENCH + "\nThe cat sleeps on the table of the kitchen.", "French", False),
        (FRENCH + "\nOK!\n\n```python\n# this comment is English, and that is all right\n```", "French", True),
        ("OK", "French", True),
        ("", "French", False),
        ("12 + 30 = 42", "French", True),
        ("```python\nprint(1)\n```", "French", True),
        ("Le chat dort.", "Klingon", False),
        ("这只猫在桌子上睡觉。\nThis cat sleeps on the table all day long.", "Chinese", False),
    ],
)
def test_every_line_must_be_in_the_language(text: str, lang: str, passes: bool) -> None:
    assert lines_in_language(text, lang) is passes


@pytest.mark.skipif(not DESCRIPTIONS.exists(), reason="needs shared/data beside the checkout")
def test_language_on_labelled_descriptions() -> None:
    right = wrong = judged = passed = 0
    names = {code: name for name, code in CODES.items()}
    with gzip.open(DESCRIPTIONS, "rt", encoding="utf-8") as file:
        for row in (json.loads(line) for number, line in enumerate(file) if number % 40 == 0):
            lang = names.get(row["lang"].split("_")[0])
            if lang in LANGUAGES and row["long"]:
                found = measure_language(row["long"], LANGUAGES)
                right += found is not None and found.name == lang
                wrong += found is not None and found.name != lang
                judged += 1
                passed += lines_in_language(row["long"], lang)
    assert judged > 400
    assert right > 0.98 * judged
    assert wrong < 0.01 * judged
    assert passed > 0.97 * judged


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": [1, 2]}', "JSON"),
        ("```json\n[1, 2]\n```", "JSON"),
        ('{"a": [1, 2}', None),
        ("7", None),
        ("<p>One <b>two</b></p>", "XML"),
        ("<p>One <b>two</p>", None),
        ('<!DOCTYPE x [<!ENTITY a "aa">]><x>&a;</x>', None),
        ("Here:\n\n| a | b |\n|---|:-:|\n| 1 | 2 |", "Tabular"),
        ("| a | b |\n|---|---|", None),
        ("The sum is $\\frac{1}{2}$.", "Latex"),
        ("\\begin{align}x\\end{align}", "Latex"),
        ("It costs $5 or $6.", None),
        ("- one\n- two\n- three", "Enumeration"),
        ("Do this:\n1. first\n2. second", "Enumeration"),
        ("- just one", None),
        ("One.\nTwo.\nThree.\n- a\n- b", None),
        ("# Title\n\nText.", "Markdown"),
        ("Some **bold** text.", "Markdown"),
        ("See [the page](https://example.org/a).", "Markdown"),
        (FENCED, "Markdown"),
        ("# a comment\nx = f(**options) + 2**n * 3**m", None),
        ("Plain text.", None),
        ("", None),
    ],
)
def test_the_form_of_a_text(text: str, expected: str | None) -> None:
    assert measure_format(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{this is a sentence in braces}", None),
        ("[citation needed]", None),
        ("{'a': 1}", None),
        ('{"a": 1}\n{"a": 2}', "JSON"),
        ('{"a": 1}\n{"a": 2', None),
        ('Here it is: {"a": 1}', None),
        ("<to be continued>", None),
        ("a < b and c > d", None),
        ("<br>line<br>", None),
        ("ls | grep x | wc -l", None),
        ("name\tage\nAnn\t3\nBob\t4", "Tabular"),
        ("\tindented\n\ttext", None),
        ("+---+---+\n| a | b |\n+===+===+\n| 1 | 2 |\n+---+---+", "Tabular"),
        ("A well-known - and old - fact.", None),
        ("2019. It was a year.\n2020. It was another.", None),
        ("1. one\n5. two", None),
        ("a) one\nb) two\nc) three", "Enumeration"),
        ("It has:\n\n * a part that goes\n   over two lines\n * another one", "Enumeration"),
        ("He said:\n- Hello?\nShe went away for a week.\n\nThen it rained.\n\nNobody knew.", None),
        ("$5_000 and $6_000", None),
        ("We get $x^2 + y^2$.", "Latex"),
        ("echo $HOME_DIR and $PATH_X", None),
        ("`$x^2$` is how it is written", None),
        ("Step 1: Add 3 and 4.\nStep 2: Double it.\nThe answer is 14.", "ChainOfThought"),
        ("Step 1: Heat the oil.\nStep 2: Fry.", "Enumeration"),
        ("First, there are 3 cars. Then 2 more arrive. So there are 5.\n#### 5", "ChainOfThought"),
        ("First we ate. Then we slept. So we left.", None),
        ("<think>2 + 2 is 4</think>\n4", "ChainOfThought"),
        ("<think></think>\n4", None),
        ("The answer is 5.", None),
    ],
)
def test_near_misses_of_a_form(text: str, expected: str | None) -> None:
    assert measure_format(text) == expected


@pytest.mark.parametrize(
    ("prompt", "answer", "expected"),
    [
        ("Pick one. (A) stone (B) apple", "B", "MCQAnswer"),
        ("Which one is a fruit? 1. stone 2. apple", "2", "MCQAnswer"),
        ("How many are there? 1. one stone 2. two apples", "2", None),
        ("Options: A) stone B) apple", "C", None),
        ("Vitamin B. What is it good for?", "B", None),
    ],
)
def test_a_choice_is_one_of_the_options_that_are_listed(prompt: str, answer: str, expected: str | None) -> None:
    assert measure_format(answer, prompt) == expected


OPTIONS = "Which is a fruit?\nA) stone\nB) apple\nC) cloud"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("B", "MCQAnswer"),
        ("(b)", "MCQAnswer"),
        ("B) apple", "MCQAnswer"),
        ("The answer is B.", "MCQAnswer"),
        ("D", None),
        ("An apple", None),
    ],
)
def test_a_choice_needs_the_options_in_the_prompt(answer: str, expected: str | None) -> None:
    assert measure_format(answer, OPTIONS) == expected
    assert measure_format(answer, "Which is a fruit?") is None


@settings(deadline=None)  # the first example loads models
@given(st.text(max_size=300), st.text(max_size=100))
def test_no_text_breaks_a_measurement(text: str, prompt: str) -> None:
    measure_format(text, prompt)
    code_type(text)
    looks_like_code(text)
    measure_language(text, LANGUAGES)
    lines_in_language(text, "English")
