"""Annotated rows as verified token ids: a row that cannot be trained on exactly as it is written leaves, in both arms alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jinja2 import TemplateError

from tailmark.chat import Messages, control_tokens, end_of_turn, find_control_token, list_form, render_list, render_prompt, token_ids
from tailmark.errors import TaxonomyError
from tailmark.prepare.shorten import shorter_prompts
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
        cut: tokens that left the prompt because the row was too long.
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
    cut: int = 0


@dataclass(frozen=True)
class Rejected:
    """Why a row cannot be trained on: a short code, and what was found."""

    reason: str
    detail: str


class Encoder:
    """Turns rows into examples. It can be sent to another process.

    Args:
        tokenizer: with the marker-aware template, in the rendering of the marked arm.
        taxonomy: of the rows' markers.
        names: the markers that are written; None: all.
        tail_marker: the marker that says what is tail.
        pack_length: most tokens of a row.
        too_long: what becomes of a longer row.
    """

    def __init__(
        self,
        tokenizer: Any,
        taxonomy: Taxonomy,
        *,
        names: Sequence[str] | None,
        tail_marker: str,
        pack_length: int,
        too_long: Literal["quarantine", "truncate_prompt"] = "quarantine",
    ) -> None:
        for name in (*(names or ()), tail_marker):
            taxonomy.spec(name)
        self.tokenizer = tokenizer
        self._taxonomy, self._pack_length, self._too_long = taxonomy, pack_length, too_long
        self._names = frozenset(taxonomy.markers if names is None else names)
        self._tail_marker = tail_marker
        self._form = list_form(tokenizer.chat_template)
        self._control = control_tokens(tokenizer)
        self._end = end_of_turn(tokenizer)

    def __call__(self, rows: Sequence[Record]) -> list[Example | Rejected]:
        """One result per row, in order."""
        found: dict[int, Example | Rejected] = {}
        readable: list[_Rendered] = []
        for index, row in enumerate(rows):
            rendered = self._unreadable(row) or self._render(index, row)
            if isinstance(rendered, Rejected):
                found[index] = rendered
            else:
                readable.append(rendered)
        found.update((rendered.index, example) for rendered, example in zip(readable, self._encode(readable), strict=True))
        return [found[index] for index in range(len(rows))]

    def _unreadable(self, row: Record) -> Rejected | None:
        if not row["completion"].strip():
            return Rejected("no_answer", "the completion holds no text to learn from")
        texts = [*(message["content"] for message in row["prompt"]), row["completion"]]
        token = find_control_token(texts, self._control)
        return Rejected("control_token", f"the text contains {token}, which the tokenizer reads as its own") if token else None

    def _render(self, index: int, row: Record) -> _Rendered | Rejected:
        markers = MarkerList(row["markers"]).only(self._names)
        try:
            prompts = [render_prompt(self.tokenizer, row["prompt"], given) for given in (None, markers)]
        except TemplateError as error:
            return Rejected("template", f"the base model's chat template refuses the conversation: {error}")
        texts = (*prompts, render_list(markers, self._form), escape(row["completion"]) + self._end)
        return _Rendered(index, row, markers, texts)

    def _encode(self, rows: Sequence[_Rendered]) -> list[Example | Rejected]:
        if not rows:  # of an empty batch the tokenizer makes one empty text
            return []
        columns = [self._ids([row.texts[column] for row in rows]) for column in range(4)]
        return [self._example(row, encoded) for row, *encoded in zip(rows, *columns, strict=True)]

    def _ids(self, texts: Sequence[str]) -> list[Encoded]:
        ids = token_ids(self.tokenizer, texts)
        # As the tokenizer's own batch_decode, which looks at the type of every single id first.
        decoded = self.tokenizer.backend_tokenizer.decode_batch(ids, skip_special_tokens=False)
        return [Encoded(np.array(item, np.int32), text, again) for item, text, again in zip(ids, texts, decoded, strict=True)]

    def _example(self, rendered: _Rendered, columns: Sequence[Encoded]) -> Example | Rejected:
        row, (plain, full, head, answer) = rendered.row, columns
        for what, encoded in (("prompt", plain), ("marked prompt", full)):
            if encoded.decoded != encoded.text:
                return Rejected(
                    "untokenizable", f"the {what} does not come back from its tokens: {_difference(encoded.text, encoded.decoded)}"
                )
        problem = self._label_problem(row["completion"], rendered.markers, head, answer)
        if problem:
            return Rejected("label_mismatch", problem)
        longest = len(full.ids) + len(head.ids) + len(answer.ids)
        if longest > self._pack_length:
            return self._shortened(row, longest)
        tail_value = row["markers"][self._tail_marker]
        return Example(
            row["id"], row["split"], tuple(row["prompt"]), rendered.markers, tail_value, plain.ids, head.ids, answer.ids, longest
        )

    def _shortened(self, row: Record, longest: int) -> Example | Rejected:
        """The row with a prompt that fits, where that is asked for and possible."""
        if self._too_long == "truncate_prompt":
            for prompt in shorter_prompts(self.tokenizer, row["prompt"], longest - self._pack_length):
                shorter = self._render(0, {**row, "prompt": prompt})
                columns = [] if isinstance(shorter, Rejected) else [self._ids([text])[0] for text in shorter.texts]
                if columns and sum(len(encoded.ids) for encoded in columns[1:]) <= self._pack_length:
                    assert isinstance(shorter, _Rendered)
                    found = self._example(shorter, columns)
                    return replace(found, cut=longest - found.longest) if isinstance(found, Example) else found
        return Rejected("too_long", f"{longest} tokens with the full list on both sides, and prepare.pack_length is {self._pack_length}")

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
class _Rendered:
    """A row as text: prompt, prompt with the full list, list, answer with the end of turn."""

    index: int
    row: Record
    markers: MarkerList
    texts: tuple[str, ...]


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
