"""Marker lists as the taxonomy allows them, token by token.

What may come next is a tree whose branches are the model's choices; a token without a sibling is no choice and needs no forward pass of
its own. Tokens are those that training has: a list with its newline is tokenized as one text. Branches are therefore the tokens of whole
lines, and within a number only such tokens are allowed as the tokenizer itself would write.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, TypeVar

from tailmark.chat import token_ids
from tailmark.errors import ModelError
from tailmark.generate.numbers import NumberForm
from tailmark.taxonomy import LIST_CLOSE, LIST_OPEN, TEXT, ListForm, MarkerValue, Taxonomy, render
from tailmark.taxonomy.markers import value_text

Item = TypeVar("Item")
Tokens = tuple[int, ...]
Chosen = tuple[tuple[str, str], ...]
"""Written markers, name and value as text."""

_MOST_GUESSED = 24
"""Tokens that are guessed ahead at a time."""

_MOST_PLANS = 256
"""Trees that are kept, one for each combination of given markers."""


class Node:
    """A place in a list: what may come next, and where each token leads. Without options the list has ended.

    Args:
        fill: adds the options when they are first asked for.
    """

    def __init__(self, fill: Callable[[Node], None] | None = None) -> None:
        self._fill = fill
        self._options: dict[int, Node] = {}
        self.likely: int | None = None

    @property
    def options(self) -> dict[int, Node]:
        """The next tokens and the nodes they lead to."""
        if self._fill is not None:
            fill, self._fill = self._fill, None
            fill(self)
        return self._options

    def at(self, tokens: Sequence[int]) -> Node:
        """The place that a path of tokens leads to, new where there is none yet."""
        node = self
        for token in tokens:
            node = node.options.setdefault(token, Node())
        return node

    def add(self, tokens: Sequence[int], end: Node) -> None:
        """Put a path of tokens under this node that leads to `end`."""
        self.at(tokens[:-1]).options[tokens[-1]] = end

    def expect(self, tokens: Sequence[int]) -> None:
        """Guess this path where there is a choice."""
        node = self
        for token in tokens:
            node.likely = token
            node = node.options[token]

    def guess(self) -> list[int]:
        """Tokens that probably come next, up to a choice about which nothing can be said before."""
        node = self
        tokens: list[int] = []
        while node.options and len(tokens) < _MOST_GUESSED:
            token = next(iter(node.options)) if len(node.options) == 1 else node.likely
            if token is None:
                break
            tokens.append(token)
            node = node.options[token]
        return tokens


class ListTokens:
    """The parts of lists, as text and as the tokens that training has.

    Raises:
        ModelError: the tokenizer joins a line with what stands before it, so that a list cannot be made of its lines.
    """

    def __init__(self, tokenizer: Any, form: ListForm) -> None:
        self._tokenizer, self.form = tokenizer, form
        self._open = LIST_OPEN + ("\n" if form.rendering == "text" else "")
        self.opened = self.whole([self._open])[0]
        self.closed, *_ = self.inside([LIST_CLOSE + "\n"])
        self.empty = self.whole([render({}, form) + "\n"])[0]

    def line(self, name: str, value: MarkerValue) -> str:
        """The text of one marker in a list."""
        return render({name: value}, self.form).removeprefix(self._open).removesuffix(LIST_CLOSE)

    def whole(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokens of texts by themselves."""
        return [tuple(ids) for ids in token_ids(self._tokenizer, texts)]

    def inside(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokens of texts as they are inside a list."""
        opened = len(self.opened)
        whole = self.whole([self._open + text for text in texts])
        if any(ids[:opened] != self.opened for ids in whole):
            raise _not_separable()
        return [ids[opened:] for ids in whole]

    def lines(self, markers: Sequence[tuple[str, MarkerValue]]) -> list[Tokens]:
        """Tokens of lines, the same whatever stands around them."""
        texts = [self.line(name, value) for name, value in markers]
        tokens = self.inside(texts)
        after = self.inside([text + LIST_CLOSE + "\n" for text in texts])
        before = self.inside([text + text for text in texts])
        for ids, closed, twice in zip(tokens, after, before, strict=True):
            if closed != ids + self.closed or twice != ids + ids:
                raise _not_separable()
        return tokens

    def text(self, tokens: Sequence[int]) -> str:
        """What tokens say."""
        return str(self._tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def spelled(self, letters: str) -> dict[int, str]:
        """Tokens of the vocabulary that consist of these ASCII letters only, with their texts."""
        vocabulary: dict[str, int] = self._tokenizer.get_vocab()
        return {token: text for text, token in sorted(vocabulary.items()) if text and set(text) <= set(letters)}


def _not_separable() -> ModelError:
    return ModelError(
        "This tokenizer joins lines of a marker list, so a list cannot be written under the taxonomy's grammar.",
        where="the model's tokenizer",
        fix="leave --constrained and the mode `forced` out",
    )


def _common(sequences: Sequence[Sequence[Item]]) -> tuple[Item, ...]:
    """What sequences begin with, all of them."""
    return tuple(items[0] for items in takewhile(lambda items: len(set(items)) == 1, zip(*sequences, strict=False)))


class NumberTokens:
    """The numbers of one marker, as the tokenizer writes them."""

    def __init__(self, tokens: ListTokens, name: str, form: NumberForm) -> None:
        self._tokens, self._form = tokens, form
        one, two = tokens.line(name, 1), tokens.line(name, 2)
        zeros = value_text(1, form.digits)[:-1]
        self._head = "".join(_common([one, two])).removesuffix(zeros)
        tail = one.removeprefix(f"{self._head}{zeros}1")
        starts = [text for text in "0123456789-" if form.may_begin(text)]
        self.begin = _common(tokens.inside([self._head + text for text in starts]))
        self._begun = tokens.text(self.begin)
        self._rest = self._head.removeprefix(self._begun)
        bare, full = tokens.inside([f"{self._head}1", f"{self._head}1{tail}"])
        if full[: len(bare)] != bare or not self._head.startswith(self._begun):
            raise _not_separable()
        self._end = full[len(bare) :]
        self._letters = tokens.spelled("0123456789.-" + self._rest)
        self._known: dict[Tokens, tuple[Tokens, bool]] = {}

    def node(self, follow: Node, written: Tokens = (), text: str = "") -> Node:
        """The place in a number after `written`, tokens that say `text`; `follow`: what comes after the line."""

        def fill(node: Node) -> None:
            if written not in self._known:
                self._known[written] = self._continued(written, text)
            more, complete = self._known[written]
            for token in more:
                node.options[token] = self.node(follow, (*written, token), text + self._letters[token])
            if complete and self._end:
                node.add(self._end, follow)
            elif complete:
                node.options.update(follow.options)

        return Node(fill)

    def _continued(self, written: Tokens, text: str) -> tuple[Tokens, bool]:
        """The tokens that can follow, and whether the number can end here."""
        possible = [token for token, letters in self._letters.items() if self._may_begin(text + letters)]
        asked = self._tokens.inside([self._begun + text + self._letters[token] for token in possible])
        before = self.begin + written
        more = Tokens(token for token, ids in zip(possible, asked, strict=True) if ids == (*before, token))
        return more, text.startswith(self._rest) and self._form.complete(text.removeprefix(self._rest))

    def _may_begin(self, text: str) -> bool:
        rest = self._rest
        return rest.startswith(text) or (text.startswith(rest) and self._form.may_begin(text.removeprefix(rest)))


@dataclass(frozen=True)
class _Plan:
    """What one request leaves open: `names` that may be written, in order, and the values that are given."""

    names: tuple[str, ...]
    given: Chosen


class ListGrammar:
    """All lists that hold only known markers, in alphabetical order, with values they can have and that go together.

    Args:
        names: of the markers that a list may hold.

    Raises:
        ModelError: the tokenizer does not keep the lines of a list apart.
    """

    def __init__(self, tokenizer: Any, taxonomy: Taxonomy, names: Sequence[str], form: ListForm = TEXT) -> None:
        self._taxonomy = taxonomy
        self.tokens = ListTokens(tokenizer, form)
        self.names = tuple(sorted(names))
        self._lines: dict[tuple[str, str], Tokens] = {}
        for name in self.names:
            self.lines(name, tuple(taxonomy.spec(name).values))
        numeric = [name for name in self.names if not taxonomy.spec(name).values]
        forms = {name: NumberForm.of(taxonomy.spec(name), form.digits.get(name, 0)) for name in numeric}
        self.numbers = {name: NumberTokens(self.tokens, name, number) for name, number in forms.items()}
        self._starts: dict[_Plan, Node] = {}

    def start(self, given: Mapping[str, MarkerValue] | None = None, names: Sequence[str] | None = None) -> Node:
        """Where a list begins.

        Args:
            given: markers that the list holds in any case.
            names: the other markers that it may hold (None: all).

        Raises:
            TaxonomyError: a given marker or value is not in the taxonomy.
        """
        fixed = {name: value_text(value) for name, value in (given or {}).items()}
        wanted = set(self.names if names is None else names) & set(self.names)
        plan = _Plan(tuple(sorted(wanted | fixed.keys())), tuple(sorted(fixed.items())))
        if plan not in self._starts:
            if len(self._starts) == _MOST_PLANS:  # a server is asked for ever new values
                self._starts.clear()
            self._starts[plan] = self._start(plan)
        return self._starts[plan]

    def _start(self, plan: _Plan) -> Node:
        root = Node()
        if plan.names:
            root.add(self.tokens.opened, _Lines(self, plan).after("", ()))
        if not plan.given:
            root.add(self.tokens.empty, Node())
        if plan.names:
            root.expect(self.tokens.opened)
        return root

    def lines(self, name: str, values: Sequence[str]) -> list[Tokens]:
        """Tokens of a marker's line with each of the values."""
        new = [(name, value) for value in values if (name, value) not in self._lines]
        typed = [(name, self._taxonomy.typed(name, value)) for _, value in new]
        self._lines.update(zip(new, self.tokens.lines(typed), strict=True))
        return [self._lines[name, value] for value in values]

    def values(self, name: str, given: Mapping[str, str], chosen: Mapping[str, str]) -> Sequence[str] | None:
        """The closed values that a marker can have beside those that were given and chosen; None: any number of its form."""
        known = {**given, **chosen}
        if name in given:
            return [given[name]]
        spec = self._taxonomy.spec(name)
        if any(other in known and known[other] not in values for other, values in spec.applies_to.items()):
            return []
        if not spec.values:
            return None
        asked = [self._taxonomy.spec(other).applies_to.get(name) for other in known if other in self._taxonomy.markers]
        return [value for value in spec.values if all(values is None or value in values for values in asked)]

    def depends(self, name: str) -> bool:
        """Whether a marker makes sense beside some values of others only."""
        return name in self._taxonomy.markers and bool(self._taxonomy.spec(name).applies_to)

    def matters(self, name: str) -> bool:
        """Whether which values others can have depends on a marker."""
        return self.depends(name) or any(name in spec.applies_to for spec in self._taxonomy.markers.values())


class _Lines:
    """The lines of the lists of one plan."""

    def __init__(self, grammar: ListGrammar, plan: _Plan) -> None:
        self._grammar, self._plan, self._given = grammar, plan, dict(plan.given)
        self._nodes: dict[tuple[str, Chosen], Node] = {}

    def after(self, last: str, chosen: Chosen) -> Node:
        """The place after the line of marker `last`; `chosen`: the written markers on which others depend."""
        if (last, chosen) not in self._nodes:
            self._nodes[last, chosen] = Node(lambda node: self._fill(node, last, chosen))
        return self._nodes[last, chosen]

    def _fill(self, node: Node, last: str, chosen: Chosen) -> None:
        names = [name for name in self._plan.names if name > last]
        given = next((name for name in names if name in self._given), None)
        paths = {}
        for name in names[: names.index(given) + 1] if given else names:
            values = self._grammar.values(name, self._given, dict(chosen))
            if values is None:
                paths[name] = self._add_number(node, name, chosen)
            elif values:
                paths[name] = self._add_lines(node, name, values, chosen)
        if given is None and last:  # a list without markers is written in a way of its own
            node.add(self._grammar.tokens.closed, Node())
        usual = (path for name, path in paths.items() if name in self._given or not self._grammar.depends(name))
        node.expect(next(usual, paths[given] if given else self._grammar.tokens.closed if last else ()))

    def _add_number(self, node: Node, name: str, chosen: Chosen) -> Tokens:
        number = self._grammar.numbers[name]
        node.at(number.begin).options.update(number.node(self.after(name, chosen)).options)
        return number.begin

    def _add_lines(self, node: Node, name: str, values: Sequence[str], chosen: Chosen) -> Tokens:
        """Add a line for each value; returns what they have in common."""
        lines = self._grammar.lines(name, values)
        for value, tokens in zip(values, lines, strict=True):
            known = (*chosen, (name, value)) if self._grammar.matters(name) else chosen
            node.add(tokens, self.after(name, known))
        return _common(lines)
