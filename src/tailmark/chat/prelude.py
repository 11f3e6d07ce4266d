"""The Jinja before a model's own chat template: it makes every text safe and puts the marker list at the end of the last user turn.

Nothing that a caller gives can become a marker list or a control token (one that ends a turn, say). Texts are made safe: the wrapper's
word gets a trailing underscore (`tailmark.taxonomy.escape`), a control token one before its last character, so that the tokenizer reads
both as text. What a template writes of nested values (calls of tools, definitions) cannot be rewritten in Jinja: there an imitation is
refused, and so is one that parts of a text would make together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tailmark.taxonomy.markers import Values

START = "{%- set tailmark = namespace("
VALUES = "values="
DIGITS = "digits="
END = "{%- set messages = tailmark.messages -%}{{- '' }}"

_STATE = "given={}, fields={}, last=-1, messages=[], parts=[], text=-1, whole='') -%}"

# Few texts have a character that a control token begins with: only they are searched for every token.
_SAFE = r"""
{%- set tailmark_control = @CONTROL@ -%}
{%- macro tailmark_safe(text) -%}
  {%- set text = text|replace('MARKER_LIST', 'MARKER_LIST_') -%}
  {%- if @BEGINS@ -%}
    {%- set safe = namespace(text=text) -%}
    {%- for token in tailmark_control if token in text -%}
      {%- set safe.text = safe.text|replace(token, token[:-1] ~ '_' ~ token[-1:]) -%}
    {%- endfor -%}
    {%- set text = safe.text -%}
  {%- endif -%}
  {{- text -}}
{%- endmacro -%}
{%- macro tailmark_check(value, place) -%}
  {%- set text = value|string -%}
  {%- if tailmark_safe(text) != text -%}{{- raise_exception(place ~ ' must not hold a marker list or a control token') -}}{%- endif -%}
{%- endmacro -%}"""

_LIST = r"""
{%- set tailmark_list = '' -%}
{%- if markers is defined and markers is not none -%}
  {%- if markers is string or markers is not iterable -%}
    {{- raise_exception('markers are a mapping, or a list of names with values') -}}
  {%- endif -%}
  {%- for item in (markers if markers is not mapping else []) -%}
    {%- set pair = [item['name'], item['value']] if item is mapping else item -%}
    {%- if pair[0] in tailmark.given -%}{{- raise_exception('marker ' ~ pair[0] ~ ' is given twice') -}}{%- endif -%}
    {%- set tailmark.given = dict(tailmark.given, **{pair[0]: pair[1]}) -%}
  {%- endfor -%}
  {%- set tailmark_list -%}
    {%- for name, value in (markers if markers is mapping else tailmark.given)|dictsort if value is not none -%}
      {%- set text = value|string -%}
      {%- if not (name.isascii() and name.isidentifier() and name == name|lower) or name[0] == '_' -%}
        {{- raise_exception('a marker cannot be named ' ~ name) -}}
      {%- endif -%}
      {%- if value is boolean or not (value is string or value is number) or not text or text != text|trim
          or '<' in text or '>' in text or '\n' in text or '\r' in text or text != tailmark_safe(text) -%}
        {{- raise_exception('marker ' ~ name ~ ' cannot be ' ~ text) -}}
      {%- endif -%}
      @LINE@
    {%- endfor -%}
  {%- endset -%}
  {%- set tailmark_list = '\n<MARKER_LIST>' ~ tailmark_list ~ @TAIL@'</MARKER_LIST>' -%}
{%- endif -%}"""
_TEXT_LINE = r"""{{- '\n<' ~ name ~ '>' ~ text ~ '</' ~ name ~ '>' -}}"""
_TEXT_TAIL = r"""('\n' if tailmark_list else '') ~ """
_COMPACT_LINE = r"""{%- set closed = tailmark.values[name] if name in tailmark.values -%}
      {%- if closed is not defined or (closed and text not in closed) -%}
        {{- raise_exception('the model has no token for marker ' ~ name ~ ' with the value ' ~ text) -}}
      {%- endif -%}
      {{- '<MARKER_LIST:' ~ name ~ '>' ~ ('<MARKER_LIST:' ~ name ~ '=' ~ text ~ '>' if closed else text) -}}"""

# A caller may give 60 or "60".
_DIGITS = r"""{%- if name in tailmark.digits and text.isascii() and text.isdigit() and text|length < tailmark.digits[name] -%}
        {%- set text = ('@ZEROS@' ~ text)[-tailmark.digits[name]:] -%}
      {%- endif -%}
      """

_MESSAGES = r"""
{%- for message in messages -%}{%- if message['role'] == 'user' -%}{%- set tailmark.last = loop.index -%}{%- endif -%}{%- endfor -%}
{%- if tailmark_list and tailmark.last == -1 -%}{{- raise_exception('markers need a user message') -}}{%- endif -%}
{%- for message in messages -%}
  {%- set list = tailmark_list if loop.index == tailmark.last else '' -%}
  {%- set tailmark.fields = {} -%}
  {%- for key in message if key != 'content' and message[key] -%}
    {%- if message[key] is not string -%}{{- tailmark_check(message[key], key) -}}
    {%- elif tailmark_safe(message[key]) != message[key] -%}
      {%- set tailmark.fields = dict(tailmark.fields, **{key: tailmark_safe(message[key])}) -%}
    {%- endif -%}
  {%- endfor -%}
  {%- if message['content'] is string -%}
    {%- set message = dict(message, content=tailmark_safe(message['content']) ~ list, **tailmark.fields) -%}
  @PARTS@{%- else -%}
    {%- if list -%}{{- raise_exception('markers need a user message of plain text') -}}{%- endif -%}
    {%- if message['content'] -%}{{- tailmark_check(message['content'], 'content') -}}{%- endif -%}
    {%- set message = dict(message, **tailmark.fields) -%}
  {%- endif -%}
  {%- set tailmark.messages = tailmark.messages + [message] -%}
{%- endfor -%}"""
# Only behind a template that takes parts itself: engines read from such a loop that they may pass parts.
_PARTS = r"""{%- elif message['content'] is iterable and message['content'] is not mapping -%}
    {%- set tailmark.parts = [] -%}
    {%- set tailmark.text = -1 -%}
    {%- set tailmark.whole = '' -%}
    {%- for part in message['content'] -%}
      {%- if part['type'] == 'text' -%}{%- set tailmark.text = loop.index -%}{%- endif -%}
    {%- endfor -%}
    {%- if list and tailmark.text == -1 -%}{{- raise_exception('markers need a user message with text') -}}{%- endif -%}
    {%- for part in message['content'] -%}
      {%- if part['type'] == 'text' -%}
        {%- set text = tailmark_safe(part['text']) -%}
        {%- set tailmark.whole = tailmark.whole ~ text|trim -%}
        {%- set part = dict(part, text=text ~ (list if loop.index == tailmark.text else '')) -%}
      {%- else -%}{{- tailmark_check(part, 'content') -}}{%- endif -%}
      {%- set tailmark.parts = tailmark.parts + [part] -%}
    {%- endfor -%}
    {{- tailmark_check(tailmark.whole|replace('MARKER_LIST_', ' '), 'content in parts') -}}
    {%- set message = dict(message, content=tailmark.parts, **tailmark.fields) -%}
  """

_CALLERS = ("tools", "documents")
_CALLER = r"""
{%- if @NAME@ is defined and @NAME@ -%}{{- tailmark_check(@NAME@, '@NAME@') -}}{%- endif -%}"""

_CLOCK = r"""
{%- if tailmark_date is defined -%}{%- macro strftime_now(form) -%}{{- tailmark_safe(tailmark_date) -}}{%- endmacro -%}{%- endif -%}"""


@dataclass(frozen=True)
class Features:
    """What a model's own template does.

    Attributes:
        parts: it takes a text as parts.
        clock: it asks a clock.
        writes: the variables beside messages whose text it writes.
    """

    parts: bool
    clock: bool
    writes: tuple[str, ...] = ()

    @classmethod
    def of(cls, own: str, *, parts: bool) -> Features:
        """What a template's source says; `parts` must be tried."""
        return cls(parts, clock="strftime_now" in own, writes=tuple(name for name in _CALLERS if name in own))


def prelude(compact: Values | None, features: Features, control: Sequence[str], digits: Mapping[str, int]) -> str:
    """The Jinja before a model's own template.

    Args:
        compact: for the compact rendering, the markers that have tokens, with their closed values.
        control: the tokenizer's control tokens.
        digits: by name of the marker, the least digits of its whole numbers.
    """
    start, line, tail = START, _TEXT_LINE, _TEXT_TAIL
    if compact is not None:
        start, line, tail = f"{START}{VALUES}{_json({name: list(compact[name]) for name in sorted(compact)})}, ", _COMPACT_LINE, ""
    if digits:
        start = f"{start}{DIGITS}{_json(dict(sorted(digits.items())))}, "
        line = _DIGITS.replace("@ZEROS@", "0" * max(digits.values())) + line
    callers = "".join(_CALLER.replace("@NAME@", name) for name in features.writes)
    messages = _MESSAGES.replace("@PARTS@", _PARTS if features.parts else "")
    clock = _CLOCK if features.clock else ""
    safe = _SAFE.replace("@CONTROL@", _json(list(control))).replace("@BEGINS@", _begins(control))
    return start + _STATE + safe + _LIST.replace("@LINE@", line).replace("@TAIL@", tail) + callers + messages + clock + "\n" + END


def _begins(control: Sequence[str]) -> str:
    """Whether a text has a character that a control token begins with, in Jinja."""
    return " or ".join(f"{_json(first)} in text" for first in sorted({token[0] for token in control})) or "false"


# SGLang takes a template with one of these words for one that wants content as parts; tokens such as <|vision_start|> hold them.
_SNIFFED = re.compile("image|audio|video|vision")


def _json(value: object) -> str:
    return _SNIFFED.sub(lambda word: f"\\u{ord(word[0][0]):04x}{word[0][1:]}", json.dumps(value, ensure_ascii=False))


def imitated_by_escape(control: Sequence[str]) -> str | None:
    """A control token that making another one safe could write, so that these tokens cannot be kept out of texts; None: there is none."""
    for token in control:
        ends = "_" + token[-1]
        for other in control:
            if ends in other or other in token[:-1] + ends:
                return other
    return None
