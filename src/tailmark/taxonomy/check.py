"""What is wrong with a taxonomy file: every problem, each with its line."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from tailmark.errors import TaxonomyError
from tailmark.taxonomy.schema import Example, MarkerSpec, Taxonomy, load_taxonomy

_SECTIONS: dict[int, type[BaseModel]] = {1: Taxonomy, 3: MarkerSpec, 5: Example}
"""Length of the path to a key, to the section whose key it is: `name`, `markers.X.kind`, `markers.X.examples.0.text`."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong. `line` counts from 1; None: it concerns the whole file."""

    line: int | None
    place: str
    says: str

    def __str__(self) -> str:
        line = f"line {self.line}: " if self.line else ""
        return f"{line}{self.place}: {self.says}" if self.place else f"{line}{self.says}"


def problems(path: Path) -> list[Problem]:
    """Everything that is wrong with a file, by line; empty for a sound one.

    Raises:
        TaxonomyError: there is no such file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError):
        raise TaxonomyError("There is no such taxonomy file.", where=str(path), fix="name a file that exists") from None
    except UnicodeDecodeError as error:
        return [Problem(None, "", f"the file is not UTF-8 text: {error.reason} at byte {error.start}")]
    try:
        root = YAML(pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return [Problem(mark.line + 1 if mark else None, "", f"this is not YAML: {error.problem or error.context}")]
    except YAMLError as error:
        return [Problem(None, "", f"this is not YAML: {str(error).splitlines()[0]}")]
    if root is None:
        return [Problem(None, "", "the file is empty")]
    found = [*_repeated(root, ()), *_invalid(text, root)]
    return sorted(found, key=lambda item: (item.line or 0, item.place, item.says))


def _repeated(node: Node, path: tuple[str, ...]) -> Iterator[Problem]:
    """Keys that stand twice in one mapping."""
    if isinstance(node, SequenceNode):
        for number, item in enumerate(node.value):
            yield from _repeated(item, (*path, str(number)))
    if not isinstance(node, MappingNode):
        return
    first: dict[str, int] = {}
    for key, value in node.value:
        name = str(key.value) if isinstance(key, ScalarNode) else "?"
        line = key.start_mark.line + 1
        if name in first:
            yield Problem(line, ".".join((*path, name)), f"stands twice; first in line {first[name]}")
        else:
            first[name] = line
            yield from _repeated(value, (*path, name))


def _invalid(text: str, root: Node) -> Iterator[Problem]:
    yaml = YAML(typ="safe", pure=True)
    yaml.allow_duplicate_keys = True
    try:
        Taxonomy.model_validate(yaml.load(text))
    except ValidationError as error:
        for item in error.errors():
            path = [str(part) for part in item["loc"] if part != "[key]"]
            yield Problem(_line(root, path), ".".join(path), _explained(item, path))
    except YAMLError as error:
        yield Problem(None, "", f"this is not YAML: {str(error).splitlines()[0]}")


def _line(node: Node, path: Sequence[str]) -> int:
    """The line of the key at a path, or of the last part of the path that is there."""
    line = int(node.start_mark.line)
    for part in path:
        entry = next((pair for pair in _entries(node) if pair[0] == part), None)
        if entry is None:
            break
        _, line, node = entry
    return line + 1


def _entries(node: Node) -> Iterator[tuple[str, int, Node]]:
    if isinstance(node, MappingNode):
        for key, value in node.value:
            yield str(key.value), key.start_mark.line, value
    elif isinstance(node, SequenceNode):
        for number, item in enumerate(node.value):
            yield str(number), item.start_mark.line, item


def _explained(item: ErrorDetails, path: Sequence[str]) -> str:
    kind = item["type"]
    if kind == "extra_forbidden":
        section = _SECTIONS.get(len(path), MarkerSpec)
        near = difflib.get_close_matches(path[-1], list(section.model_fields), n=1, cutoff=0.5)
        return "there is no such key" + (f"; did you mean '{near[0]}'?" if near else f": use one of {', '.join(section.model_fields)}")
    if kind == "missing":
        return "is missing"
    if kind == "string_pattern_mismatch" and "markers" in path and len(path) == 2:
        return "a marker's name is lower-case letters, digits and underscores, a letter first"
    if kind == "string_pattern_mismatch":
        return "a value is one line without < and >, and without blanks at its ends"
    if kind == "string_type" and not isinstance(item["input"], str):
        return f"should be text, not {item['input']!r}: put it in quotes"
    return _lowered(str(item["msg"]).removeprefix("Value error, "))


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]


def hints(taxonomy: Taxonomy) -> list[str]:
    """What is allowed, yet probably not meant."""
    found = []
    for name, spec in sorted(taxonomy.markers.items()):
        folded: dict[str, str] = {}
        for value in spec.values:
            if (other := folded.setdefault(value.casefold(), value)) != value:
                found.append(f"{name}: the values '{other}' and '{value}' differ only in case; a model's answer cannot be told apart")
        covered = {example.value for example in spec.examples}
        if spec.values and spec.read_from == "prompt" and (without := [value for value in spec.values if value not in covered]):
            what = "no value has" if not covered else f"these have no: {', '.join(without)};"
            found.append(f"{name}: {what} few-shot example; the LLM annotator then goes by the definition alone")
        if not spec.definition.strip() or not all(text.strip() for text in spec.values.values()):
            found.append(f"{name}: a definition is empty")
    return found


def checked(path: Path) -> Taxonomy:
    """The taxonomy of a sound file.

    Raises:
        TaxonomyError: the file is missing, or has problems, all of which the message lists.
    """
    if found := problems(path):
        count = "1 problem" if len(found) == 1 else f"{len(found)} problems"
        listed = "\n".join(f"  {problem}" for problem in found)
        raise TaxonomyError(
            f"The taxonomy has {count}:\n{listed}", where=str(path), fix="see docs/taxonomy.md for the form of a taxonomy file"
        )
    return load_taxonomy(path)


def summary(taxonomy: Taxonomy) -> str:
    """One line that says what a taxonomy holds."""
    values = sum(len(spec.values) for spec in taxonomy.markers.values())
    numbers = sum(spec.kind != "categorical" for spec in taxonomy.markers.values())
    counted = f"{len(taxonomy.markers)} markers, {values} values, {numbers} numbers"
    return f"taxonomy '{taxonomy.name}', version {taxonomy.version}: {counted}, digest {taxonomy.digest[:12]}"
