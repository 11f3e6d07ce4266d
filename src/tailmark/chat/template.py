"""The marker-aware chat template, derived from a model's own and held against it by rendering with both.

The derived template is the model's own behind a prelude that escapes every message and puts the list at the end of the last user
turn. So no family of models has a template of its own here: what the model's template makes of messages, it makes of these too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from jinja2 import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from tailmark.chat.prelude import DIGITS, END, START, VALUES, Features, imitated_by_escape, prelude
from tailmark.errors import ModelError
from tailmark.taxonomy import ListForm, MarkerList, MarkerValue, render
from tailmark.taxonomy.markers import Values

SystemMessage = Literal["keep", "none"]
Messages = Sequence[Mapping[str, Any]]

DATE = "26 Jul 2024"
"""Given to templates that ask a clock, as `tailmark_date`: what is prepared must not depend on the day. Llama 3 has it as default."""

_SYSTEM, _USER = {"role": "system", "content": "S y."}, {"role": "user", "content": "One?"}
_ANSWER, _LAST = {"role": "assistant", "content": "Two."}, {"role": "user", "content": "Three?"}
_PROBES: Sequence[Messages] = (
    (_LAST,),
    (_USER, _ANSWER, _LAST),
    (_SYSTEM, _LAST),
    (_SYSTEM, _USER, _ANSWER, _LAST),
    (_USER, _ANSWER),
    (_USER, _ANSWER, {"role": "user", "content": " \nThree? {{ x }} <b>&amp;\t\n "}),
)
_REQUIRED = 2
"""The first probes must render; a family may refuse the others (Gemma has no system message)."""
_PROBE_MARKERS = MarkerList({"large": 12345, "name": "value", "number": 1.5, "small": 7})
_PROBE_VALUES: Values = {"large": (), "name": ("value",), "number": (), "small": ()}
_PROBE_DIGITS = {"large": 3, "small": 3}


def marker_template(
    template: str,
    system_message: SystemMessage = "keep",
    compact: Values | None = None,
    *,
    control: Sequence[str] = (),
    digits: Mapping[str, int] | None = None,
) -> str:
    """The marker-aware form of a model's chat template.

    Args:
        template: the model's own, or one already marker-aware.
        system_message: `none` takes out the system message the template inserts where a conversation has none.
        compact: for a compact rendering, the markers that have tokens, with their closed values.
        control: the tokenizer's control tokens (`control_tokens`), which no text can then write; without them any text can.
        digits: by name of the marker, the least digits of its whole numbers.

    Raises:
        ModelError: there is no template, it cannot be rendered, or it changes message texts so that a list would not stand
            at the end of the last user turn; or the control tokens cannot be kept out of texts.
    """
    if not isinstance(template, str) or not template.strip():
        raise _not_derivable("the tokenizer has no single chat template")
    own = own_template(template)
    if system_message == "none":
        own = _without_default_system(own)
    if imitated := imitated_by_escape(control):
        raise _not_derivable(f"a text could write the control token {imitated!r}")
    features = Features.of(own, parts=_takes_parts(own))
    form = ListForm("text" if compact is None else "compact", _PROBE_DIGITS if digits else {})
    _verify(own, prelude(None if compact is None else _PROBE_VALUES, features, control, form.digits) + own, form)
    return prelude(compact, features, control, digits or {}) + own


def takes_markers(template: object) -> bool:
    """Whether a template is one that `marker_template` derived."""
    return isinstance(template, str) and template.startswith(START)


def compact_values(template: str) -> Values | None:
    """The markers that a marker-aware template has tokens for, with their closed values; None where it writes lists as plain text."""
    return _declared(template)[0]


def list_form(template: str) -> ListForm:
    """How a marker-aware template writes lists."""
    values, digits = _declared(template)
    return ListForm("text" if values is None else "compact", digits)


def _declared(template: str) -> tuple[Values | None, dict[str, int]]:
    """What a marker-aware template begins with: the closed values of compact lists, and the least digits of numbers."""
    found: dict[str, Any] = {}
    place = len(START)
    for name in (VALUES, DIGITS) if takes_markers(template) else ():
        if template.startswith(name, place):
            found[name], place = json.JSONDecoder().raw_decode(template, place + len(name))
            place += len(", ")
    return found.get(VALUES), found.get(DIGITS, {})


def own_template(template: str) -> str:
    """The model's own part of a template."""
    return template.partition(END)[2] if takes_markers(template) else template


def _not_derivable(why: str) -> ModelError:
    return ModelError(
        f"The chat template cannot be made marker-aware: {why}.",
        where="chat_template of the base model",
        fix="give the tokenizer a template that writes each message's text whole, between tokens of its turn (docs/templates.md)",
    )


class _Refused(Exception):
    """The template refuses a conversation, or is malformed."""


def _render(template: str, messages: Messages, *, prompt: bool, markers: Mapping[str, MarkerValue] | None = None) -> str:
    """The conversation as the template writes it, without the special tokens around it.

    Raises:
        _Refused: it does not render.
    """
    given = {"markers": None if markers is None else dict(markers), "bos_token": "", "eos_token": ""}
    conversation = [dict(message) for message in messages]
    try:
        rendered, _ = render_jinja_template([conversation], chat_template=template, add_generation_prompt=prompt, **given)
    except (TemplateError, TypeError, ValueError) as error:
        raise _Refused(str(error).splitlines()[0]) from error
    return str(rendered[0])


def _verify(own: str, derived: str, form: ListForm) -> None:
    """Render conversations with both templates, without markers and with, and compare."""
    inserted = "\n" + render(_PROBE_MARKERS, form)
    for number, messages in enumerate(_PROBES):
        prompt = messages[-1]["role"] == "user"
        try:
            plain = _render(own, messages, prompt=prompt)
        except _Refused as error:
            if number < _REQUIRED:
                raise _not_derivable(f"it does not render ({error})") from error
            continue
        try:
            again = _render(derived, messages, prompt=prompt)
            marked = _render(derived, messages, prompt=prompt, markers=_PROBE_MARKERS)
        except _Refused as error:
            raise _not_derivable(f"it does not render what it is given ({error})") from error
        if again != plain:
            raise _not_derivable("it renders a conversation otherwise than the model's own")
        _verify_list(plain, marked, messages, inserted)


def _verify_list(plain: str, marked: str, messages: Messages, inserted: str) -> None:
    """Every text is there; the list stands right after that of the last user turn, and nothing else is changed."""
    texts = [str(message["content"]).strip() for message in messages]
    last = max(index for index, message in enumerate(messages) if message["role"] == "user")
    before, found, after = plain.rpartition(texts[last])
    head, listed, tail = marked.partition(inserted)
    # A template may strip the blanks around a text; before a list those at its end stay.
    same = head.rstrip() == (before + found).rstrip() and tail.lstrip() == after.lstrip()
    if not (found and listed and same and all(text in plain for text in texts)):
        raise _not_derivable("it does not write message texts as they are")


def _takes_parts(own: str) -> bool:
    """Whether the template writes a text given as a list of parts as it writes the text."""
    parts = {"role": "user", "content": [{"type": "text", "text": "One?"}]}
    try:
        return _render(own, [parts], prompt=True) == _render(own, [_USER], prompt=True)
    except _Refused:
        return False


_LITERAL = re.compile(r"""\{\{-?\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")\s*-?\}\}""")


def _without_default_system(template: str) -> str:
    """The template without the system message it inserts of itself; unchanged where it inserts none."""
    try:
        plain, told = _render(template, [_USER], prompt=False), _render(template, [_SYSTEM, _USER], prompt=False)
    except _Refused:
        return template  # without system messages there is none to insert
    shared = next((place for place, (left, right) in enumerate(zip(plain, told, strict=False)) if left != right), len(plain))
    if told.endswith(plain[shared:]):
        return template
    try:
        turn = told.removeprefix(_render(template, [_SYSTEM], prompt=False))
        for own in _without_literal(template, plain.removesuffix(turn)):
            if _render(own, [_USER], prompt=False) == turn:
                return own
    except _Refused:
        pass
    raise ModelError(
        "The system message that the chat template inserts cannot be taken out.",
        where="prepare.system_message: none",
        fix="set `prepare.system_message: keep`",
    )


def _without_literal(template: str, text: str) -> Iterator[str]:
    """The template without each place in it that writes exactly this text, as an expression or as it stands."""
    places = [match.span() for match in _LITERAL.finditer(template) if (match[1] or match[2] or "").replace("\\n", "\n") == text]
    for start, end in [*places, *(match.span() for match in re.finditer(re.escape(text), template))]:
        yield template[:start] + template[end:]
