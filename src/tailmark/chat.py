"""How an example becomes text: the marker-aware chat template, prompts, completions.

The template is saved with the tokenizer and takes `markers`, so that `apply_chat_template(..., markers=...)`, and any engine that
passes arguments to the template, renders exactly what training rendered. It is the base model's own template behind a prelude
that escapes every message and puts the list at the end of the last user turn.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from jinja2 import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from tailmark.errors import ModelError
from tailmark.taxonomy import MarkerList, MarkerValue, escape, render

SystemMessage = Literal["keep", "none"]
Messages = Sequence[Mapping[str, str]]

_PRELUDE = r"""
{%- set tailmark = namespace(list='', last=-1, messages=[]) -%}
{%- if markers is defined and markers is not none -%}
  {%- for name, value in markers|dictsort if value is not none -%}
    {%- set tailmark.list = tailmark.list ~ '<' ~ name ~ '>' ~ value ~ '</' ~ name ~ '>\n' -%}
  {%- endfor -%}
  {%- set tailmark.list = '\n<MARKER_LIST>' ~ ('\n' if tailmark.list else '') ~ tailmark.list ~ '</MARKER_LIST>' -%}
{%- endif -%}
{%- for message in messages if message['role'] == 'user' -%}{%- set tailmark.last = loop.index -%}{%- endfor -%}
{%- if tailmark.list and tailmark.last == -1 -%}{{- raise_exception('markers need a user message') -}}{%- endif -%}
{%- set tailmark.users = 0 -%}
{%- for message in messages -%}
  {%- if message['role'] == 'user' -%}{%- set tailmark.users = tailmark.users + 1 -%}{%- endif -%}
  {%- if message['content'] is string -%}
    {%- set content = message['content']|replace('MARKER_LIST', 'MARKER_LIST_') -%}
    {%- if message['role'] == 'user' and tailmark.users == tailmark.last -%}{%- set content = content ~ tailmark.list -%}{%- endif -%}
    {%- set tailmark.messages = tailmark.messages + [dict(message, content=content)] -%}
  {%- else -%}
    {%- set tailmark.messages = tailmark.messages + [message] -%}
  {%- endif -%}
{%- endfor -%}
{%- set messages = tailmark.messages -%}
""".strip()

_PROBE: Messages = (
    {"role": "system", "content": "S y."},
    {"role": "user", "content": " One?\n"},
    {"role": "assistant", "content": "Two."},
    {"role": "user", "content": "Three? "},
)
_PROBE_MARKERS = MarkerList({"name": "value", "number": 1.5})


def marker_template(template: str, system_message: SystemMessage = "keep") -> str:
    """The marker-aware form of a model's chat template.

    Args:
        template: the model's own (ChatML, or any that writes message texts as they are), or one already marker-aware.
        system_message: `none` takes out the system message the template inserts where a conversation has none.

    Raises:
        ModelError: there is no template, it cannot be rendered, or it changes message texts so that a list would not stand
            at the end of the last user turn.
    """
    if not isinstance(template, str) or not template.strip():
        raise _not_derivable("the tokenizer has no single chat template")
    own = template.removeprefix(_PRELUDE)
    if system_message == "none":
        own = _without_default_system(own)
    derived = _PRELUDE + own
    _verify(own, derived)
    return derived


def _not_derivable(why: str) -> ModelError:
    return ModelError(
        f"The chat template cannot be made marker-aware: {why}.",
        where="chat_template of the base model",
        fix="use a base model with a ChatML template (roles and texts between <|im_start|> and <|im_end|>)",
    )


def _render(template: str, messages: Messages, *, prompt: bool, markers: Mapping[str, MarkerValue] | None = None) -> str:
    conversation = [dict(message) for message in messages]
    tokens = {"bos_token": "", "eos_token": ""}
    try:
        rendered, _ = render_jinja_template([conversation], chat_template=template, add_generation_prompt=prompt, markers=markers, **tokens)
    except (TemplateError, TypeError, ValueError) as error:
        raise _not_derivable(f"it does not render ({str(error).splitlines()[0]})") from error
    return str(rendered[0])


def _verify(own: str, derived: str) -> None:
    """Render a conversation with both templates and compare."""
    listed = render(_PROBE_MARKERS)
    last = dict(_PROBE[-1])
    for messages in (_PROBE, _PROBE[1:], _PROBE[-1:], _PROBE[:3]):
        if _render(own, messages, prompt=False) != _render(derived, messages, prompt=False):
            raise _not_derivable("it renders a conversation otherwise than the model's own")
    for messages in (_PROBE, _PROBE[1:], _PROBE[-1:]):
        plain = _render(own, messages, prompt=True)
        marked = _render(derived, messages, prompt=True, markers=_PROBE_MARKERS)
        before, text, after = plain.rpartition(last["content"])
        if not text or f"{before}{text}\n{listed}{after}" != marked or not all(message["content"] in plain for message in messages):
            raise _not_derivable("it does not write message texts as they are")


_LITERAL = re.compile(r"""\{\{-?\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")\s*-?\}\}""")


def _without_default_system(template: str) -> str:
    """The template without the system message it inserts of itself; unchanged where it inserts none."""
    system, user = {"role": "system", "content": "S y."}, {"role": "user", "content": "One?"}
    turn = _render(template, [system, user], prompt=False).removeprefix(_render(template, [system], prompt=False))
    inserted = _render(template, [user], prompt=False).removesuffix(turn)
    if not inserted:
        return template
    for match in _LITERAL.finditer(template):
        if (match[1] or match[2] or "").replace("\\n", "\n") == inserted:
            own = template[: match.start()] + template[match.end() :]
            if _render(own, [user], prompt=False) == turn:
                return own
    raise ModelError(
        "The system message that the chat template inserts cannot be taken out.",
        where="prepare.system_message: none",
        fix="set `prepare.system_message: keep`",
    )


def render_prompt(tokenizer: Any, messages: Messages, markers: Mapping[str, MarkerValue] | None) -> str:
    """The prompt up to where the answer begins; `markers` None: no list, empty: the empty list."""
    given = None if markers is None else dict(markers)
    text = tokenizer.apply_chat_template([dict(message) for message in messages], tokenize=False, add_generation_prompt=True, markers=given)
    return str(text)


def render_list(markers: Mapping[str, MarkerValue] | None) -> str:
    """The head of a completion: the list and its newline; nothing where there is no list (None)."""
    return "" if markers is None else render(markers) + "\n"


def render_completion(markers: Mapping[str, MarkerValue] | None, answer: str) -> str:
    """What the model is to write, without the end-of-turn token."""
    return render_list(markers) + escape(answer)


def token_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, nothing added.

    Prompt, marker list (with its newline) and answer are tokenized apart, in training as at inference: so the boundaries are exact,
    and an answer has the same tokens whatever stands before it.
    """
    ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
    return ids


def end_of_turn(tokenizer: Any) -> str:
    """The token that ends an assistant turn, as text.

    Raises:
        ModelError: the template does not end a turn with the tokenizer's end-of-sequence token, at which generation stops.
    """
    turns = [{"role": "user", "content": "One?"}, {"role": "assistant", "content": "Two."}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    if not tokenizer.eos_token or f"Two.{tokenizer.eos_token}" not in text:
        raise ModelError(
            "The chat template does not end a turn with the tokenizer's end-of-sequence token.",
            where=f"eos_token: {tokenizer.eos_token!r}",
            fix="set `eos_token` in the model's tokenizer_config.json to the token that ends a turn",
        )
    return str(tokenizer.eos_token)


def require_marker_template(tokenizer: Any, folder: Path) -> None:
    """Check that a model's template takes markers.

    Raises:
        ModelError: it does not: the folder was not written by tailmark, or its template was replaced.
    """
    template = tokenizer.chat_template
    if isinstance(template, str) and template.startswith(_PRELUDE):
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
