"""Which rows are held out, and which make a profile's subset. Both depend on content and seed only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from tailmark.config import Config
from tailmark.ingest.sampling import stratified, unit_hash
from tailmark.records import HELDOUT, MARKER_METADATA, TRAIN, Record


def group_of(row: Record) -> str:
    """What keeps rows in one split: the source's group key, else the prompt's text."""
    group = row["metadata"].get("group")
    return group or "\n".join(message["content"] for message in row["prompt"])


def split(rows: Sequence[Record], fraction: float, marker: str, seed: int) -> None:
    """Set each row's `split`: of each value of `marker`, whole groups in the order of their hash until `fraction` of its rows is held out.

    So every tail value has held-out rows, unless it has a single group, which stays in training.
    """
    groups: dict[str, list[Record]] = {}
    for row in rows:
        row["split"] = TRAIN
        groups.setdefault(group_of(row), []).append(row)
    by_value: dict[str, list[str]] = {}
    for group, members in groups.items():
        by_value.setdefault(members[0]["metadata"].get(MARKER_METADATA + marker, ""), []).append(group)
    for names in by_value.values():
        wanted = fraction * sum(len(groups[name]) for name in names)
        held = 0
        for name in sorted(names, key=lambda name: (unit_hash(seed, "heldout", name), name))[: len(names) - 1]:
            if held >= wanted:
                break
            for row in groups[name]:
                row["split"] = HELDOUT
            held += len(groups[name])


def subset(rows: Sequence[Record], config: Config) -> list[Record]:
    """The profile's rows: those that `ingest.only` admits, `ingest.rows` of them or all.

    Train and held-out rows are drawn apart, in the proportion of the split.
    """
    rows = [row for row in rows if all(_marker(name)(row) in values for name, values in config.ingest.only.items())]
    wanted = config.ingest.rows
    if wanted is None or wanted >= len(rows):
        return list(rows)
    keys = [_marker(name) for name in config.ingest.stratify]
    heldout = [row for row in rows if row["split"] == HELDOUT]
    train = [row for row in rows if row["split"] == TRAIN]
    aside = min(len(heldout), max(round(wanted * config.ingest.heldout_fraction), 1 if heldout else 0))

    def rank(row: Record) -> object:
        return unit_hash(config.seed, "subset", group_of(row)), row["id"]

    return [
        *stratified(heldout, aside, keys, config.ingest.floor, rank),
        *stratified(train, wanted - aside, keys, config.ingest.floor, rank),
    ]


def _marker(name: str) -> Callable[[Record], str]:
    return lambda row: row["metadata"].get(MARKER_METADATA + name, "")


def counts(rows: Iterable[Record], names: Sequence[str]) -> dict[str, dict[str, dict[str, int]]]:
    """Marker to value to split to number of rows; rows without the marker count under `none`."""
    found: dict[str, dict[str, dict[str, int]]] = {name: {} for name in names}
    for row in rows:
        for name in names:
            value = row["metadata"].get(MARKER_METADATA + name, "none")
            cell = found[name].setdefault(value, {TRAIN: 0, HELDOUT: 0})
            cell[row["split"]] += 1
    return found
