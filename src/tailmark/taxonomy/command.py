"""The commands `tailmark taxonomy show`, `check` and `diff`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tailmark.errors import TaxonomyError
from tailmark.files import read_json
from tailmark.taxonomy.check import checked, hints, summary
from tailmark.taxonomy.compare import Change, compare
from tailmark.taxonomy.schema import MarkerSpec, Taxonomy, load_taxonomy

_STYLES = {"added": "green", "removed": "red", "renamed?": "yellow", "changed": "yellow"}


def show(path: Path, marker: str | None) -> None:
    """Print a taxonomy as a table, or one marker with all its values and examples.

    Raises:
        TaxonomyError: the file is missing or malformed, or has no such marker.
    """
    taxonomy = load_taxonomy(path)
    console = Console(highlight=False)
    if marker is not None:
        _show_marker(console, marker, nearest_spec(taxonomy, marker))
        return
    table = _table("marker", "kind", "read from", "what it says")
    for name, spec in sorted(taxonomy.markers.items()):
        table.add_row(name, spec.kind, spec.read_from, escape(f"{spec.definition} {_values(spec)}"))
    console.print(table)
    console.print(f"\n{summary(taxonomy)} ({path})")
    console.print("`tailmark taxonomy show --marker NAME` prints a marker's values with their definitions and examples.")


def nearest_spec(taxonomy: Taxonomy, marker: str) -> MarkerSpec:
    """The marker's definition.

    Raises:
        TaxonomyError: there is no such marker; the message names the nearest one.
    """
    if marker not in taxonomy.markers and (near := difflib.get_close_matches(marker, taxonomy.markers, n=1, cutoff=0.5)):
        raise TaxonomyError(f"'{marker}' is not a marker of taxonomy '{taxonomy.name}'.", fix=f"did you mean '{near[0]}'?")
    return taxonomy.spec(marker)


def _table(*columns: str) -> Table:
    table = Table(*columns, box=None, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    table.columns[0].style = "bold"
    for column in table.columns[:-1]:
        column.no_wrap = True
    return table


def _values(spec: MarkerSpec) -> str:
    text = "One of " + ", ".join(spec.values) + "." if spec.values else ""
    if spec.minimum is not None or spec.maximum is not None:
        low, high = ("any" if bound is None else f"{bound:,.10g}" for bound in (spec.minimum, spec.maximum))
        text = f"From {low} to {high}."
    where = " and ".join(f"{name} is {' or '.join(values)}" for name, values in sorted(spec.applies_to.items()))
    return f"{text} Only where {where}." if where else text


def _show_marker(console: Console, name: str, spec: MarkerSpec) -> None:
    console.print(f"[bold]{name}[/] ({spec.kind}, read from the {spec.read_from}): {escape(spec.definition)}")
    if not spec.values:
        console.print(_values(spec))
        return
    if spec.applies_to:
        console.print(_values(spec).partition(". ")[2])
    examples: dict[str, list[str]] = {}
    for example in spec.examples:
        examples.setdefault(example.value, []).append(example.text)
    table = _table("value", "definition", *(["example"] if examples else []))
    for value, meaning in spec.values.items():
        table.add_row(*map(escape, (value, meaning, *(["; ".join(examples.get(value, []))] if examples else []))))
    console.print(table)


def check(path: Path) -> None:
    """Print what a sound taxonomy file holds, with hints.

    Raises:
        TaxonomyError: the file is missing or malformed; the message lists every problem with its line.
    """
    taxonomy = checked(path)
    console = Console(highlight=False)
    console.print(f"[green]sound[/]: {summary(taxonomy)}")
    for hint in hints(taxonomy):
        console.print(f"  hint: {escape(hint)}")


def diff(old_path: Path, new_path: Path, holders: Mapping[str, Path]) -> None:
    """Print what changed from one taxonomy file to another, and what becomes stale by it.

    Args:
        holders: what holds a taxonomy's digest, by name: JSON files of data (`taxonomy.digest`) and of models (`taxonomy`).

    Raises:
        TaxonomyError: a file is missing or malformed.
    """
    old, new = checked(old_path), checked(new_path)
    console = Console(highlight=False)
    console.print(f"from {summary(old)}\nto   {summary(new)}\n")
    changes = compare(old, new)
    if changes:
        console.print(_changes(changes))
    elif old.digest == new.digest:
        console.print("The two are the same.")
    else:
        console.print("Only name or version differ.")
    if old.digest != new.digest:
        console.print(_consequence(changes))
        for name, path in holders.items():
            if path.is_file():
                console.print(f"  {name}: {_state(path, old, new)}")


def _changes(changes: list[Change]) -> Table:
    table = _table("marker", "change", "what")
    for change in changes:
        table.add_row(change.marker, f"[{_STYLES[change.kind]}]{change.kind}[/]", escape(change.says))
    return table


def _consequence(changes: list[Change]) -> str:
    if any(change.in_lists for change in changes):
        return "\nMarker lists change: annotate the data again and train again (`dvc repro` does both)."
    return "\nNo marker or value changes, only how they are described; the digest changes all the same, so `dvc repro` makes all again."


def _state(path: Path, old: Taxonomy, new: Taxonomy) -> str:
    told = read_json(path).get("taxonomy")
    digest = told.get("digest") if isinstance(told, dict) else told
    if digest == new.digest:
        return "made with the new one"
    return "made with the old one: [red]stale[/]" if digest == old.digest else "made with neither: [red]stale[/]"
