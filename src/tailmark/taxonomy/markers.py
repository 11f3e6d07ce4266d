"""Marker lists and how they are written (paper, section 2: `m` appended to the prompt and prepended to the completion).

As plain text, in the model's own vocabulary, one marker a line, in alphabetical order of name:

    <MARKER_LIST>
    <domain>Culture</domain>
    <length_tokens>60</length_tokens>
    </MARKER_LIST>

Or compact: the same on one line, where wrapper, name and closed value are one added token each, and a number stays text:

    <MARKER_LIST><MARKER_LIST:domain><MARKER_LIST:domain=Culture><MARKER_LIST:length_tokens>60</MARKER_LIST>

Either with leading zeros, if asked for (`<length_tokens>060</length_tokens>`): the first digit then tells how large a number is.

The empty list is `<MARKER_LIST></MARKER_LIST>`. Text that is not ours never contains the wrapper or a token of a compact list:
all of them contain one word, `escape` marks that word and `unescape` gives the text back unchanged. Both are one string
replacement, so that the chat template can do the same in Jinja.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tailmark.errors import TaxonomyError

MarkerValue = str | int | float
Rendering = Literal["text", "compact"]
Values = Mapping[str, Sequence[str]]
"""The closed values of markers, by name; a number has none."""


@dataclass(frozen=True)
class ListForm:
    """How marker lists are written.

    Attributes:
        rendering: as plain text or compact.
        digits: by name of the marker, the least digits of its whole numbers; zeros lead where one has fewer. (Negative ones stay.)
    """

    rendering: Rendering = "text"
    digits: Mapping[str, int] = field(default_factory=dict)


TEXT = ListForm()
"""As the paper writes them."""

_WORD = "MARKER_LIST"
LIST_OPEN = f"<{_WORD}>"
LIST_CLOSE = f"</{_WORD}>"

NAME = re.compile(r"[a-z][a-z0-9_]*")
VALUE = re.compile(r"[^\s<>](?:[^<>\n\r]*[^\s<>])?")
_LINE = re.compile(rf"<(?P<name>{NAME.pattern})>(?P<value>{VALUE.pattern})</(?P=name)>")
_COMPACT = re.compile(rf"<{_WORD}:(?P<name>{NAME.pattern})>(?:<{_WORD}:(?P=name)=(?P<closed>{VALUE.pattern})>|(?P<number>[^<>\s]+))")
_STRAY = re.compile(rf"{LIST_OPEN}.*?(?:{LIST_CLOSE}|\Z)\n?|</?{_WORD}(?!_)[^<>\n]*(?:>|\Z)", re.DOTALL)
_COMPACT_START = re.compile(rf"(?=<{_WORD}:{NAME.pattern}>)")


def escape(text: str) -> str:
    """Text in which no marker list can be read; `unescape` gives it back unchanged.

    Injective: every occurrence of the wrapper's word gets a trailing underscore, including words that already have one.
    """
    return text.replace(_WORD, _WORD + "_")


def unescape(text: str) -> str:
    """The inverse of `escape`."""
    return text.replace(_WORD + "_", _WORD)


def value_text(value: MarkerValue, digits: int = 0) -> str:
    """A value as it is written: integers in at least so many digits, reals as briefly as they read back equal, strings as they are."""
    if isinstance(value, str):
        return value
    # NumPy's reals are floats too, but their own repr is not the plain number.
    text = repr(float(value)) if isinstance(value, float) else repr(value)
    return text.zfill(digits) if text.isdigit() else text


class MarkerList(Mapping[str, MarkerValue]):
    """An immutable mapping from marker name to value, in alphabetical order of name.

    Raises:
        TaxonomyError: a name or value could not be read back from its text.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, MarkerValue | None] | None = None) -> None:
        kept = {name: value for name, value in sorted((values or {}).items()) if value is not None}
        for name, value in kept.items():
            _check(name, value)
        self._values: dict[str, MarkerValue] = kept

    def __getitem__(self, name: str) -> MarkerValue:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(tuple(self._values.items()))

    def __repr__(self) -> str:
        return f"MarkerList({self._values!r})"

    def only(self, names: Mapping[str, object] | set[str] | frozenset[str]) -> MarkerList:
        """The markers whose name is in `names`."""
        return MarkerList({name: value for name, value in self._values.items() if name in names})


def _check(name: str, value: MarkerValue) -> None:
    if not NAME.fullmatch(name):
        raise TaxonomyError(f"'{name}' is not a marker name.", fix="use lower-case letters, digits and underscores, a letter first")
    text = value_text(value)
    if isinstance(value, bool) or not VALUE.fullmatch(text) or _WORD in text:
        raise TaxonomyError(
            f"{value!r} cannot be the value of marker '{name}'.",
            fix="use a number, or one line of text without angle brackets and without blanks at its ends",
        )


def render(markers: Mapping[str, MarkerValue], form: ListForm = TEXT) -> str:
    """The list as text, without a newline at its end. `parse` reads every form back.

    Compact, every value that is a string counts as closed, so values must have their marker's type (`Taxonomy.typed`).
    """
    if form.rendering == "compact":
        return LIST_OPEN + "".join(_compact(name, value, form) for name, value in sorted(markers.items())) + LIST_CLOSE
    lines = [f"<{name}>{value_text(value, form.digits.get(name, 0))}</{name}>" for name, value in sorted(markers.items())]
    if not lines:
        return LIST_OPEN + LIST_CLOSE
    return "\n".join([LIST_OPEN, *lines, LIST_CLOSE])


def _compact(name: str, value: MarkerValue, form: ListForm) -> str:
    return name_token(name) + (value_token(name, value) if isinstance(value, str) else value_text(value, form.digits.get(name, 0)))


def name_token(name: str) -> str:
    """The token that opens a marker in a compact list."""
    return f"<{_WORD}:{name}>"


def value_token(name: str, value: str) -> str:
    """The token of a closed value in a compact list."""
    return f"<{_WORD}:{name}={value}>"


def compact_tokens(values: Values) -> dict[str, str]:
    """The tokens that compact lists of these markers need, in order, each with the text it stands for."""
    tokens = {LIST_OPEN: _WORD, LIST_CLOSE: f"/{_WORD}"}
    for name in sorted(values):
        tokens[name_token(name)] = f"<{name}>"
        tokens |= {value_token(name, value): value for value in values[name]}
    return tokens


def parse(text: str) -> dict[str, str]:
    """Read a rendered list strictly: name to value, values still text (`Taxonomy.typed` gives them their type).

    Raises:
        TaxonomyError: the text is not exactly what `render` writes.
    """
    if text == LIST_OPEN + LIST_CLOSE:
        return {}
    if not (text.startswith(LIST_OPEN) and text.endswith(LIST_CLOSE)):
        raise TaxonomyError("The text is not a marker list.", where=repr(text[:80]))
    body = text.removeprefix(LIST_OPEN).removesuffix(LIST_CLOSE)
    if body.startswith("\n") and body.endswith("\n"):
        return _in_order(body[1:-1].split("\n"), _LINE)
    before, *items = _COMPACT_START.split(body)
    return _in_order([before, *items] if before else items, _COMPACT)


def _in_order(items: Sequence[str], form: re.Pattern[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in items:
        match = form.fullmatch(item)
        if match is None or (found and match["name"] <= max(found)):
            raise TaxonomyError("A line of the marker list is malformed, repeated or out of order.", where=repr(item))
        found[match["name"]] = _value_of(match)
    return found


def value_place(text: str, name: str) -> tuple[int, int]:
    """Where the value of a marker stands in a rendered list, with the character that ends it, as (from, to).

    Raises:
        KeyError: the list has no such marker.
    """
    for form in (_LINE, _COMPACT):
        for match in form.finditer(text):
            if match["name"] == name:
                first, last = match.span(_value_group(match))
                return first, last + 1
    raise KeyError(name)


def _value_of(match: re.Match[str]) -> str:
    return str(match[_value_group(match)])


def _value_group(match: re.Match[str]) -> str:
    return next(name for name, found in match.groupdict().items() if name != "name" and found is not None)


@dataclass(frozen=True)
class Completion:
    """What a model wrote, taken apart.

    Attributes:
        markers: name to value as text, from every well-formed line of the list; empty where there is no list.
        answer: the text after the list, unescaped.
        closed: whether a list was opened and closed (or none was written).
    """

    markers: dict[str, str]
    answer: str
    closed: bool


def split_completion(text: str) -> Completion:
    """Split a generated completion into its marker list (in either rendering) and its answer, keeping what can be kept of a malformed list.

    Nothing of a list is ever shown as text: one that never closes yields an empty answer, and lists or parts of them that a model writes
    into its answer are taken out. (What a text of the data has of the kind is escaped, so it is not touched.)
    """
    body = text.lstrip()
    if not body.startswith(LIST_OPEN):
        return Completion({}, unescape(_STRAY.sub("", text)), closed=True)
    head, close, answer = body[len(LIST_OPEN) :].partition(LIST_CLOSE)
    markers: dict[str, str] = {}
    for form in (_LINE, _COMPACT):
        for match in form.finditer(head):
            markers.setdefault(match["name"], _value_of(match))
    return Completion(markers, unescape(_STRAY.sub("", answer.removeprefix("\n"))), closed=bool(close))
