"""Every list under the grammar is valid and has the tokens of training, whatever the tokenizer; every valid list can be written."""

from __future__ import annotations

import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tailmark.base import tiny
from tailmark.base.tiny import tiny_tokenizer
from tailmark.chat import render_list, token_ids
from tailmark.chat.vocabulary import add_marker_tokens
from tailmark.errors import ModelError
from tailmark.generate.grammar import ListGrammar, Node
from tailmark.generate.numbers import NumberForm
from tailmark.taxonomy import TEXT, ListForm, MarkerSpec, Taxonomy, load_taxonomy, parse
from tailmark.taxonomy.markers import value_text

PAPER = load_taxonomy(Path(__file__).parents[2] / "src/tailmark/taxonomy/paper.yaml")
NAMES = tuple(sorted(PAPER.markers))
LLAMA3 = r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def trained(pre: Any, decoder: Any, **options: Any) -> Any:
    """A tokenizer of another family, trained on the tiny one's texts and on numbers."""
    tokenizer = Tokenizer(models.BPE(**options))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre, decoder
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet()) if "byte_fallback" not in options else sorted(map(chr, range(32, 127)))
    special = [AddedToken("<s>", special=True), *(f"<0x{byte:02X}>" for byte in range(256) if "byte_fallback" in options)]
    trainer = trainers.BpeTrainer(vocab_size=1400, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    numbers = " ".join(f"{number} -0.{number}" for number in range(0, 3000, 7))
    tokenizer.train_from_iterator([*tiny._TEXT, numbers], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def compact() -> Any:
    tokenizer = tiny_tokenizer()
    add_marker_tokens(tokenizer, {name: tuple(spec.values) for name, spec in PAPER.markers.items()})
    return tokenizer


DIGITS = {"length_tokens": 4, "length_paragraphs": 2}
FAMILIES: dict[str, tuple[Any, ListForm]] = {
    "tiny": (tiny_tokenizer(), TEXT),
    "tiny, leading zeros": (tiny_tokenizer(), ListForm(digits=DIGITS)),
    "single digits": (
        trained(
            pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]),
            decoders.ByteLevel(),
        ),
        TEXT,
    ),
    "three digits": (
        trained(
            pre_tokenizers.Sequence(
                [
                    pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
                ]
            ),
            decoders.ByteLevel(),
        ),
        TEXT,
    ),
    "compact": (compact(), ListForm("compact")),
    "compact, leading zeros": (compact(), ListForm("compact", DIGITS)),
}
FAMILIES["three digits, leading zeros"] = (FAMILIES["three digits"][0], ListForm(digits=DIGITS))
GRAMMARS = {family: ListGrammar(tokenizer, PAPER, NAMES, form) for family, (tokenizer, form) in FAMILIES.items()}


def walk(node: Node, draw: random.Random) -> list[int]:
    """A list that a model might write."""
    tokens = []
    while node.options:
        token = draw.choice(sorted(node.options))
        tokens.append(token)
        node = node.options[token]
    return tokens


def follow(node: Node, tokens: list[int]) -> Node | None:
    """Where a path of tokens leads; None: it is not allowed."""
    for token in tokens:
        if token not in node.options:
            return None
        node = node.options[token]
    return node


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32), forced=st.booleans())
def test_every_list_is_valid_and_tokenized_as_in_training(family: str, seed: int, forced: bool) -> None:
    tokenizer, form = FAMILIES[family]
    draw = random.Random(seed)
    wanted = {"lang": "French", "length_tokens": draw.randint(1, 5000), "quality": -0.25} if forced else {}
    names = draw.sample(NAMES, draw.randint(1, len(NAMES)))
    tokens = walk(GRAMMARS[family].start(wanted, names), draw)
    text = tokenizer.decode(tokens, skip_special_tokens=False)
    assert token_ids(tokenizer, [text])[0] == tokens
    assert text.endswith("\n")
    written = parse(text.removesuffix("\n"))
    assert list(written) == sorted(written)
    assert set(wanted) <= set(written) <= {*names, *wanted}
    for name, value in written.items():
        assert value_text(PAPER.typed(name, value), form.digits.get(name, 0)) == value
    assert {name: PAPER.typed(name, written[name]) for name in wanted} == wanted
    assert written.get("code_type") is None or written.get("domain") in (None, "Code")


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_every_valid_list_can_be_written(family: str, data: st.DataObject) -> None:
    tokenizer, form = FAMILIES[family]
    values: dict[str, st.SearchStrategy[Any]] = {
        name: st.sampled_from(sorted(spec.values)) if spec.values else st.integers(1, 10**7) for name, spec in PAPER.markers.items()
    }
    values["quality"] = st.decimals(-99, 99, places=3).map(float)
    markers = data.draw(st.fixed_dictionaries({}, optional=values))
    if markers.get("domain", "Code") != "Code":
        markers.pop("code_type", None)
    end = follow(GRAMMARS[family].start(), token_ids(tokenizer, [render_list(markers, form)])[0])
    assert end is not None
    assert not end.options


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_given_costs_no_choice(family: str) -> None:
    tokenizer, form = FAMILIES[family]
    wanted = {"domain": "Legal", "lang": "French", "length_tokens": 60}
    node, tokens = GRAMMARS[family].start(wanted, ()), []
    while len(node.options) == 1:
        token, node = next(iter(node.options.items()))
        tokens.append(token)
    assert not node.options
    assert tokens == token_ids(tokenizer, [render_list(wanted, form)])[0]


def test_guesses_stand_in_the_tree_and_stop_at_values() -> None:
    grammar, tokenizer = GRAMMARS["tiny"], FAMILIES["tiny"][0]
    guess = grammar.start().guess()
    assert tokenizer.decode(guess) == "<MARKER_LIST>\n<domain>"  # code_type makes sense beside domain=Code only
    assert follow(grammar.start(), guess) is not None


def test_a_tokenizer_that_joins_lines_is_refused() -> None:
    joined = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=3000, initial_alphabet=sorted(map(chr, range(10, 127))), show_progress=False)
    joined.train_from_iterator([render_list({"domain": "Legal", "lang": lang}) for lang in ("French", "German")] * 5, trainer)
    joined.decoder = decoders.Fuse()
    with pytest.raises(ModelError, match="joins lines"):
        ListGrammar(PreTrainedTokenizerFast(tokenizer_object=joined), PAPER, NAMES)


COUNTS = NumberForm.of(MarkerSpec(kind="integer", definition="", minimum=0, maximum=5000), 3)
INTEGERS = NumberForm.of(MarkerSpec(kind="integer", definition="", minimum=-20, maximum=1234))
SHARES = NumberForm.of(MarkerSpec(kind="real", definition="", minimum=0, maximum=1))
REALS = NumberForm.of(MarkerSpec(kind="real", definition="", minimum=-1.5, maximum=20))


@pytest.mark.parametrize("digits", [0, 1, 3, 5])
@pytest.mark.parametrize("low", [-20, 0, 1, 15])
def test_whole_numbers_by_trying_all_of_them(low: int, digits: int) -> None:
    form = NumberForm.of(MarkerSpec(kind="integer", definition="", minimum=low, maximum=1234), digits)
    allowed = {value_text(number, digits) for number in range(low, 1235)}
    unsigned = {number.zfill(width) for number in map(str, range(3000)) for width in range(7)}
    tried = {f"{sign}{number}" for sign in ("", "-") for number in {*unsigned, ""}}
    assert {text for text in tried if form.complete(text)} == allowed
    begins = {number[:length] for number in allowed for length in range(len(number) + 1)}
    assert {text for text in tried if form.may_begin(text)} == begins & tried


@settings(max_examples=200, deadline=None)
@given(st.decimals(-3, 30, places=4))
@example(Decimal("0.0001"))
@example(Decimal("-0.00005"))
def test_reals_are_written_as_python_writes_them(number: Decimal) -> None:
    text = repr(float(number))
    fits = Decimal("-1.5") <= number <= 20 and "e" not in text and text != "-0.0"
    assert REALS.complete(text) == fits
    if fits:
        assert all(REALS.may_begin(text[:length]) for length in range(len(text) + 1))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([COUNTS, INTEGERS, REALS, SHARES]))
def test_a_number_that_was_begun_can_be_ended(seed: int, form: NumberForm) -> None:
    draw, text = random.Random(seed), ""
    while not form.complete(text) or draw.random() < 0.8:
        more = [letter for letter in "0123456789.-" if form.may_begin(text + letter)]
        if not more:
            break
        text += draw.choice(more)
    assert form.complete(text)
    assert value_text(float(text) if form.real else int(text), form.digits) == text


def test_names_alone_are_no_grammar_of_their_own() -> None:
    """Markers of another taxonomy: conditions between closed values hold in both directions."""
    spec = {"kind": "categorical", "definition": "", "values": {"a": "", "b": ""}}
    taxonomy = Taxonomy.model_validate({"name": "own", "markers": {"one": spec, "two": {**spec, "applies_to": {"one": ["a"]}}}})
    grammar, tokenizer = ListGrammar(tiny_tokenizer(), taxonomy, ("one", "two")), tiny_tokenizer()
    lists = {tokenizer.decode(walk(grammar.start(), random.Random(seed))) for seed in range(300)}
    written = {tuple(parse(text.removesuffix("\n")).items()) for text in lists}
    two = [(("two", value),) for value in "ab"]
    assert written == {(), (("one", "a"),), (("one", "b"),), *two, *((("one", "a"), *second) for second in two)}
