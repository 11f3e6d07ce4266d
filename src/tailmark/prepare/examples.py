"""Annotated rows as verified token ids: a row that cannot be trained on exactly as it is written leaves, in both arms alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tailmark.chat import Messages, control_tokens, end_of_turn, find_control_token, render_list, render_prompt, token_ids
from tailmark.errors import TaxonomyError
from tailmark.records import Record
from tailmark.taxonomy import MarkerList, Taxonomy, escape, parse, unescape

Ids = np.ndarray[Any, np.dtype[np.int32]]


@dataclass(frozen=True, slots=True)
class Example:
    """One row, rendered and tokenized.

    Attributes:
        id: the row's.
        split: train or heldout.
        messages: the prompt.
        markers: the list it is trained with, before dropout.
        tail_value: its value of the long-tail marker.
        prompt_ids: the prompt without a list.
        list_ids: the completion's list with its newline.
        answer_ids: the answer with the end-of-turn token.
        longest: tokens with the full list on both sides.
    """

    id: str
    split: str
    messages: Messages
    markers: MarkerList
    tail_value: str | None
    prompt_ids: Ids
    list_ids: Ids
    answer_ids: Ids
    longest: int


@dataclass(frozen=True)
class Rejected:
    """Why a row cannot be trained on: a short code, and what was found."""

    reason: str
    detail: str


class Encoder:
    """Turns rows into examples.

    Args:
        tokenizer: with the marker-aware template.
        taxonomy: of the rows' markers.
        names: the markers that are written; None: all.
        tail_marker: the marker that says what is tail.
        pack_length: most tokens of a row.
    """

    def __init__(self, tokenizer: Any, taxonomy: Taxonomy, *, names: Sequence[str] | None, tail_marker: str, pack_length: int) -> None:
        for name in (*(names or ()), tail_marker):
            taxonomy.spec(name)
        self._tokenizer, self._taxonomy, self._pack_length = tokenizer, taxonomy, pack_length
        self._names = frozenset(taxonomy.markers if names is None else names)
        self._tail_marker = tail_marker
        self._control = control_tokens(tokenizer)
        self._end = end_of_turn(tokenizer)

    def __call__(self, rows: Sequence[Record]) -> list[Example | Rejected]:
        """One result per row, in order."""
        found: dict[int, Example | Rejected] = {}
        readable: list[int] = []
        for index, row in enumerate(rows):
            rejected = self._unreadable(row)
            if rejected:
                found[index] = rejected
            else:
                readable.append(index)
        # Of an empty batch the tokenizer makes one empty text.
        if not readable:
            return list(found.values())
        found.update(zip(readable, self._encode([rows[index] for index in readable]), strict=True))
        return [found[index] for index in range(len(rows))]

    def _unreadable(self, row: Record) -> Rejected | None:
        if not row["completion"].strip():
            return Rejected("no_answer", "the completion holds no text to learn from")
        texts = [*(message["content"] for message in row["prompt"]), row["completion"]]
        token = find_control_token(texts, self._control)
        return Rejected("control_token", f"the text contains {token}, which the tokenizer reads as its own") if token else None

    def _encode(self, rows: Sequence[Record]) -> list[Example | Rejected]:
        markers = [MarkerList(row["markers"]).only(self._names) for row in rows]
        plain = self._ids([render_prompt(self._tokenizer, row["prompt"], None) for row in rows])
        full = self._ids([render_prompt(self._tokenizer, row["prompt"], given) for row, given in zip(rows, markers, strict=True)])
        lists = self._ids([render_list(given) for given in markers])
        answers = self._ids([escape(row["completion"]) + self._end for row in rows])
        results: list[Example | Rejected] = []
        for row, given, *columns in zip(rows, markers, plain, full, lists, answers, strict=True):
            results.append(self._example(row, given, columns))
        return results

    def _ids(self, texts: Sequence[str]) -> list[Encoded]:
        ids = token_ids(self._tokenizer, texts)
        decoded = self._tokenizer.batch_decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return [Encoded(np.array(item, np.int32), text, again) for item, text, again in zip(ids, texts, decoded, strict=True)]

    def _example(self, row: Record, markers: MarkerList, columns: Sequence[Encoded]) -> Example | Rejected:
        plain, full, head, answer = columns
        for what, encoded in (("prompt", plain), ("marked prompt", full)):
            if encoded.decoded != encoded.text:
                return Rejected(
                    "untokenizable", f"the {what} does not come back from its tokens: {_difference(encoded.text, encoded.decoded)}"
                )
        problem = self._label_problem(row["completion"], markers, head, answer)
        if problem:
            return Rejected("label_mismatch", problem)
        longest = len(full.ids) + len(head.ids) + len(answer.ids)
        if longest > self._pack_length:
            return Rejected(
                "too_long", f"{longest} tokens with the full list on both sides, and prepare.pack_length is {self._pack_length}"
            )
        tail_value = row["markers"][self._tail_marker]
        prompt = tuple(row["prompt"])
        return Example(row["id"], row["split"], prompt, markers, tail_value, plain.ids, head.ids, answer.ids, longest)

    def _label_problem(self, completion: str, markers: MarkerList, head: Encoded, answer: Encoded) -> str | None:
        """What is wrong with the supervised span: it must read back as the list, the completion and the end of turn, exactly."""
        if not answer.decoded.endswith(self._end) or unescape(answer.decoded.removesuffix(self._end)) != completion:
            return f"the answer does not come back from its tokens: {_difference(answer.text, answer.decoded)}"
        try:
            read = {name: self._taxonomy.typed(name, text) for name, text in parse(head.decoded.removesuffix("\n")).items()}
        except TaxonomyError as error:
            return error.what
        if head.decoded != head.text or read != dict(markers):
            return f"the marker list does not come back from its tokens: {_difference(head.text, head.decoded)}"
        return None


@dataclass(frozen=True, slots=True)
class Encoded:
    """A text, its tokens, and the text those give back."""

    ids: Ids
    text: str
    decoded: str


def _difference(text: str, decoded: str) -> str:
    """The first place where two texts differ, with a little around it."""
    place = next(
        (index for index, (left, right) in enumerate(zip(text, decoded, strict=False)) if left != right), min(len(text), len(decoded))
    )
    return f"{text[place : place + 20]!r} became {decoded[place : place + 20]!r} at character {place}"
