"""Prompts and completions as text and as tokens, in training and at inference alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from tailmark.chat.template import DATE, Messages, takes_markers
from tailmark.errors import ModelError
from tailmark.taxonomy import TEXT, ListForm, MarkerValue, escape, render

_PARTS = ("Hi.\n", "Two words", " and more\n")


def render_prompt(tokenizer: Any, messages: Messages, markers: Mapping[str, MarkerValue] | None) -> str:
    """The prompt up to where the answer begins; `markers` None: no list, empty: the empty list.

    Raises:
        jinja2.TemplateError: the model's template refuses the conversation (a system message, say, or two user turns in a row).
    """
    given = None if markers is None else dict(markers)
    conversation = [dict(message) for message in messages]
    text = tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True, markers=given, tailmark_date=DATE)
    return str(text)


def render_list(markers: Mapping[str, MarkerValue] | None, form: ListForm = TEXT) -> str:
    """The head of a completion: the list and its newline; nothing where there is no list (None)."""
    return "" if markers is None else render(markers, form) + "\n"


def render_completion(markers: Mapping[str, MarkerValue] | None, answer: str, form: ListForm = TEXT) -> str:
    """What the model is to write, without the end-of-turn token."""
    return render_list(markers, form) + escape(answer)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder, so that texts tokenized apart read as one when their tokens are put together.

    A tokenizer that puts a blank before each text (Llama 2, older Mistral models) is loaded without that habit, which is saved with it.

    Raises:
        ModelError: it joins texts otherwise than they are.
    """
    for options in ({}, {"add_prefix_space": False}):
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        ids = [token for part in token_ids(tokenizer, _PARTS) for token in part]
        if tokenizer.decode(ids, clean_up_tokenization_spaces=False) == "".join(_PARTS):
            return tokenizer
    raise ModelError(
        "The base model's tokenizer adds or loses blanks where texts are put together: a prompt and its answer would not read as one.",
        where=str(folder),
        fix="use a base model with a byte-level tokenizer, or one that can be loaded with `add_prefix_space=False`",
    )


def token_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, nothing added.

    Prompt, marker list (with its newline) and answer are tokenized apart, in training as at inference: so the boundaries are exact,
    and an answer has the same tokens whatever stands before it.
    """
    ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
    return ids


def end_of_turn(tokenizer: Any) -> str:
    """The token that ends an assistant turn, as text: the one the model's template writes after the answer.

    Raises:
        ModelError: the template writes no token of the tokenizer's there, so that nobody could tell where an answer ends.
    """
    turns = [{"role": "user", "content": "One?"}, {"role": "assistant", "content": "Two."}]
    after = tokenizer.apply_chat_template(turns, tokenize=False, tailmark_date=DATE).rpartition("Two.")[2]
    found = [token for token in control_tokens(tokenizer) if after.startswith(token)]
    if not found:
        raise ModelError(
            "The chat template does not end a turn with a special token of the tokenizer.",
            where=f"after an answer it writes {after[:40]!r}; the special tokens are {', '.join(control_tokens(tokenizer)) or 'none'}",
            fix="declare the token that ends a turn as special in the model's tokenizer_config.json",
        )
    return max(found, key=len)


def require_marker_template(tokenizer: Any, folder: Path) -> None:
    """Check that a model's template takes markers.

    Raises:
        ModelError: it does not: the folder was not written by tailmark, or its template was replaced.
    """
    if takes_markers(tokenizer.chat_template):
        return
    raise ModelError(
        "The model's chat template does not take markers.",
        where=str(folder),
        fix="give a folder that `tailmark train` wrote, with its chat_template.jinja unchanged",
    )


def control_tokens(tokenizer: Any) -> tuple[str, ...]:
    """The tokens that text must not contain, because the tokenizer would read them as its own (turns, end of text)."""
    return tuple(sorted(str(token) for token in tokenizer.added_tokens_decoder.values() if token.special))


def find_control_token(texts: Iterable[str], tokens: Sequence[str]) -> str | None:
    """The first of `tokens` that one of the texts contains."""
    return next((token for text in texts for token in tokens if token in text), None)
