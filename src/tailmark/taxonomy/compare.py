"""What changed from one taxonomy to another."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tailmark.taxonomy.schema import MarkerSpec, Taxonomy

_ALIKE = 0.6

Likeness = Callable[[str, str], float]


@dataclass(frozen=True)
class Change:
    """One change.

    Attributes:
        marker: the marker it concerns, by its name in the old taxonomy, or in the new one if it is added.
        kind: `added`, `removed`, `renamed?` (a guess), or `changed`.
        says: what it is.
        in_lists: whether marker lists written with the old taxonomy are no longer right; else only what people and taggers read changed.
    """

    marker: str
    kind: str
    says: str
    in_lists: bool = True


def compare(old: Taxonomy, new: Taxonomy) -> list[Change]:
    """All changes, marker by marker."""
    gone = [name for name in old.markers if name not in new.markers]
    come = [name for name in new.markers if name not in old.markers]
    renamed = _pairs(gone, come, lambda one, other: _spec_likeness(old.markers[one], new.markers[other]))
    changes = [Change(one, "renamed?", f"to '{other}'") for one, other in renamed.items()]
    changes += [Change(name, "removed", _described(old.markers[name])) for name in gone if name not in renamed]
    changes += [Change(name, "added", _described(new.markers[name])) for name in come if name not in renamed.values()]
    for name, spec in old.markers.items():
        other = new.markers.get(renamed.get(name, name))
        if other is not None:
            changes += _marker_changes(name, spec, other)
    return sorted(changes, key=lambda change: change.marker)


def _described(spec: MarkerSpec) -> str:
    return f"{spec.kind}, {len(spec.values)} values" if spec.values else spec.kind


def _marker_changes(name: str, old: MarkerSpec, new: MarkerSpec) -> list[Change]:
    changes = []
    if old.kind != new.kind:
        changes.append(Change(name, "changed", f"kind: {old.kind} is now {new.kind}"))
    for label, before, after in (
        ("read_from", old.read_from, new.read_from),
        ("range", _range(old), _range(new)),
        ("applies_to", _conditions(old), _conditions(new)),
    ):
        if before != after:
            changes.append(Change(name, "changed", f"{label}: {before} is now {after}"))
    changes += _value_changes(name, old.values, new.values)
    if old.definition != new.definition:
        changes.append(Change(name, "changed", f'definition: now "{new.definition}"', in_lists=False))
    if old.examples != new.examples:
        changes.append(Change(name, "changed", f"few-shot examples: {len(old.examples)} before, {len(new.examples)} now", in_lists=False))
    return changes


def _value_changes(name: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[Change]:
    gone, come = [value for value in old if value not in new], [value for value in new if value not in old]
    renamed = _pairs(gone, come, lambda one, other: _text_likeness(f"{one} {old[one]}", f"{other} {new[other]}"))
    changes = [Change(name, "renamed?", f"value {one} to {other}") for one, other in renamed.items()]
    changes += [Change(name, "removed", f"value {value}") for value in gone if value not in renamed]
    changes += [Change(name, "added", f"value {value}") for value in come if value not in renamed.values()]
    redefined = [value for value in old if value in new and old[value] != new[value]]
    changes += [Change(name, "changed", f'definition of {value}: now "{new[value]}"', in_lists=False) for value in redefined]
    return changes


def _pairs(gone: list[str], come: list[str], likeness: Likeness) -> dict[str, str]:
    """What went and what came, paired where they are alike, the most alike first."""
    ranked = sorted(((likeness(one, other), one, other) for one in gone for other in come), key=lambda item: (-item[0], item[1], item[2]))
    pairs: dict[str, str] = {}
    for score, one, other in ranked:
        if score >= _ALIKE and one not in pairs and other not in pairs.values():
            pairs[one] = other
    return pairs


def _spec_likeness(one: MarkerSpec, other: MarkerSpec) -> float:
    if one.kind != other.kind:
        return 0.0
    if one.values:
        return len(one.values.keys() & other.values.keys()) / len(one.values.keys() | other.values.keys())
    return _text_likeness(one.definition, other.definition)


def _text_likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one.casefold(), other.casefold()).ratio()


def _range(spec: MarkerSpec) -> str:
    low, high = ("any" if bound is None else f"{bound:g}" for bound in (spec.minimum, spec.maximum))
    return f"{low} to {high}"


def _conditions(spec: MarkerSpec) -> str:
    return ", ".join(f"{name}={'/'.join(values)}" for name, values in sorted(spec.applies_to.items())) or "always"
