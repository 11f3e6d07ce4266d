"""Marker lists and their plain-text form (paper, section 2: `m` appended to the prompt and prepended to the completion).

    <MARKER_LIST>
    <domain>Culture</domain>
    <lang>English</lang>
    </MARKER_LIST>

One marker a line, in alphabetical order of name, in the model's own vocabulary. The empty list is
`<MARKER_LIST></MARKER_LIST>`. Text that is not ours never contains the wrapper: `escape` marks the word and `unescape` gives
the text back unchanged. Both are one string replacement, so that the chat template can do the same in Jinja.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tailmark.errors import TaxonomyError

MarkerValue = str | int | float

_WORD = "MARKER_LIST"
LIST_OPEN = f"<{_WORD}>"
LIST_CLOSE = f"</{_WORD}>"

NAME = re.compile(r"[a-z][a-z0-9_]*")
VALUE = re.compile(r"[^\s<>](?:[^<>\n\r]*[^\s<>])?")
_LINE = re.compile(rf"<({NAME.pattern})>({VALUE.pattern})</\1>")


def escape(text: str) -> str:
    """Text in which no marker list can be read; `unescape` gives it back unchanged.

    Injective: every occurrence of the wrapper's word gets a trailing underscore, including words that already have one.
    """
    return text.replace(_WORD, _WORD + "_")


def unescape(text: str) -> str:
    """The inverse of `escape`."""
    return text.replace(_WORD + "_", _WORD)


def value_text(value: MarkerValue) -> str:
    """A value as it is written: integers plain, reals in the shortest form that reads back equal, strings as they are."""
    if isinstance(value, str):
        return value
    # NumPy's reals are floats too, but their own repr is not the plain number.
    return repr(float(value)) if isinstance(value, float) else repr(value)


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


def render(markers: Mapping[str, MarkerValue]) -> str:
    """The list as text, without a newline at its end. `parse` reads it back."""
    lines = [f"<{name}>{value_text(value)}</{name}>" for name, value in sorted(markers.items())]
    if not lines:
        return LIST_OPEN + LIST_CLOSE
    return "\n".join([LIST_OPEN, *lines, LIST_CLOSE])


def parse(text: str) -> dict[str, str]:
    """Read a rendered list strictly: name to value, values still text (`Taxonomy.typed` gives them their type).

    Raises:
        TaxonomyError: the text is not exactly what `render` writes.
    """
    if text == LIST_OPEN + LIST_CLOSE:
        return {}
    lines = text.split("\n")
    if len(lines) < 3 or lines[0] != LIST_OPEN or lines[-1] != LIST_CLOSE:
        raise TaxonomyError("The text is not a marker list.", where=repr(text[:80]))
    found: dict[str, str] = {}
    for line in lines[1:-1]:
        match = _LINE.fullmatch(line)
        if match is None or match[1] in found or (found and match[1] < max(found)):
            raise TaxonomyError("A line of the marker list is malformed, repeated or out of order.", where=repr(line))
        found[match[1]] = match[2]
    return found


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
    """Split a generated completion into its marker list and its answer, keeping what can be kept of a malformed list.

    A list that never closes yields an empty answer: nothing of a list is ever shown as text.
    """
    body = text.lstrip()
    if not body.startswith(LIST_OPEN):
        return Completion({}, unescape(text), closed=True)
    head, close, answer = body[len(LIST_OPEN) :].partition(LIST_CLOSE)
    markers: dict[str, str] = {}
    for match in _LINE.finditer(head):
        markers.setdefault(match[1], match[2])
    return Completion(markers, unescape(answer.removeprefix("\n")), closed=bool(close))
