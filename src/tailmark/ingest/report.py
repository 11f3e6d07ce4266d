"""What `ingest` reports: the row identity of every source, the splits, the markers, and what was found in whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailmark.config import Config
from tailmark.console import say
from tailmark.ingest.contamination import Contamination
from tailmark.ingest.facts import LICENSE, PACKAGE, SOURCE, Column, Facts, marker_names
from tailmark.ingest.near import Compared
from tailmark.ingest.settle import CONTAMINATED, DUPLICATE, NEAR_DUPLICATE
from tailmark.ingest.starter import versions
from tailmark.records import HELDOUT, TRAIN, Quarantine, RowIdentity

Flags = NDArray[np.bool_]
Cells = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Outcome:
    """What became of the rows.

    Attributes:
        rows_in: by source, how many rows it had.
        facts: of the rows that are neither duplicates nor contaminated nor unusable.
        alive: which of those are no near-duplicates either.
        kept: which of those alive are written.
        heldout: which rows are held out.
        files: source to file to what tells its version.
    """

    rows_in: Mapping[str, int]
    quarantine: Quarantine
    facts: Facts
    alive: Flags
    kept: Flags
    heldout: Flags
    near: Compared
    contamination: Contamination
    files: Mapping[str, Mapping[str, Any]]

    def identities(self) -> dict[str, RowIdentity]:
        """The row identity of each source, checked."""
        source = self.facts.columns[SOURCE]
        kept, spared = source.counts(self.kept), source.counts(self.alive & ~self.kept)
        left = self.quarantine.counts_by_source()
        found = {}
        for name, rows_in in self.rows_in.items():
            reasons = dict(left.get(name, {}))
            found[name] = RowIdentity(
                rows_in=rows_in,
                kept=kept.get(name, 0),
                duplicates=reasons.pop(DUPLICATE, 0),
                contaminated=reasons.pop(CONTAMINATED, 0),
                near_duplicates=reasons.pop(NEAR_DUPLICATE, 0),
                quarantined=sum(reasons.values()),
                not_sampled=spared.get(name, 0),
            )
            found[name].check(f"source {name}")
        return found


def report(config: Config, outcome: Outcome) -> dict[str, Any]:
    """The content of `report.json`."""
    identities = outcome.identities()
    facts, kept = outcome.facts, outcome.kept
    return {
        "identity": asdict(_sum(identities)),
        "sources": {name: asdict(identity) for name, identity in identities.items()},
        "files": dict(outcome.files),
        "quarantine": outcome.quarantine.counts(),
        "near_duplicates": _near(config, outcome),
        "contamination": outcome.contamination.report(),
        "splits": {name: count for name, count in _splits(outcome).items() if count},
        "markers": {name: _cells(facts.marker(name), outcome) for name in marker_names(config)},
        "licenses": facts.columns[LICENSE].counts(kept),
        "packages": _packages(config, facts.columns[PACKAGE].counts(kept)),
    }


def _near(config: Config, outcome: Outcome) -> dict[str, Any]:
    options = config.ingest.near_duplicates
    found = {"action": options.action}
    if options.action == "keep":
        return found
    return {
        **options.model_dump(),
        "candidates": outcome.near.rows,
        "compared_pairs": outcome.near.pairs,
        "found": len({edge.row for edge in outcome.near.edges}),
    }


def _splits(outcome: Outcome) -> dict[str, int]:
    return {
        TRAIN: int((outcome.kept & ~outcome.heldout).sum()),
        HELDOUT: int((outcome.kept & outcome.heldout).sum()),
    }


def _cells(column: Column, outcome: Outcome) -> Cells:
    """Value to split to number of rows; rows without the marker count under `none`."""
    train, heldout = column.counts(outcome.kept & ~outcome.heldout), column.counts(outcome.kept & outcome.heldout)
    return {value or "none": {TRAIN: train.get(value, 0), HELDOUT: heldout.get(value, 0)} for value in {**train, **heldout}}


def _packages(config: Config, made: Mapping[str, int]) -> dict[str, dict[str, str | int]]:
    """The packages of the starter corpus, where it is a source: version, licence, and rows made from each."""
    if all(source.kind != "starter" for source in config.ingest.sources):
        return {}
    return {name: {**told, "rows": made.get(name, 0)} for name, told in versions().items()}


def _sum(identities: Mapping[str, RowIdentity]) -> RowIdentity:
    names = list(RowIdentity.__dataclass_fields__)
    return RowIdentity(**{name: sum(getattr(identity, name) for identity in identities.values()) for name in names})


def tell(config: Config, outcome: Outcome) -> None:
    """Print the row identities and the long tail."""
    identities = outcome.identities()
    for name, identity in identities.items():
        say(f"  {name}: {identity}")
    for line in outcome.contamination.lines():
        say(line)
    cells = _cells(outcome.facts.marker(config.longtail.marker), outcome)
    rows = max(int(outcome.kept.sum()), 1)
    for value, cell in sorted(cells.items(), key=lambda item: (-sum(item[1].values()), item[0])):
        say(f"    {value:<15} {sum(cell.values()):>6,} rows ({sum(cell.values()) / rows:5.1%}), {cell[HELDOUT]:,} held out")
    whole = _sum(identities)
    whole.check("ingest")
    say(f"ingest: {whole}")
