"""How far the data of this run are from those of the last training: rows that are new or gone, and the drift of every marker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tailmark.config import load_config
from tailmark.errors import DataError
from tailmark.files import read_json
from tailmark.layout import Layout
from tailmark.taxonomy import load_taxonomy
from tailmark.validate.profile import distances, make_profile
from tailmark.validate.rows import load
from tasks import git
from tasks.stored import folder_files
from tasks.workspace import Workspace


@dataclass(frozen=True)
class Change:
    """What became of the data since the last training.

    Attributes:
        rows: rows now.
        new, gone: rows that the last training did not have, and rows that are no longer there, by the hash of their content.
        drift: Jensen-Shannon distance by marker; None where nothing was trained before.
    """

    rows: int
    new: int
    gone: int
    drift: Mapping[str, float] | None

    @property
    def share(self) -> float:
        """New and gone rows by all rows now."""
        return (self.new + self.gone) / max(self.rows, 1)

    def reasons(self, max_drift: float, max_share: float) -> list[str]:
        """Why to train again; none where nothing exceeds what is allowed."""
        if self.drift is None:
            return ["nothing was trained before"]
        moved = [f"{name} drifted by {value:.3f} (more than {max_drift:g})" for name, value in self.drift.items() if value > max_drift]
        if self.share > max_share:
            moved.append(f"{self.new:,} rows are new and {self.gone:,} gone, {self.share:.1%} (more than {max_share:.1%})")
        return moved

    def markdown(self) -> str:
        """As Prefect shows it."""
        lines = [
            f"{self.rows:,} rows, {self.new:,} new and {self.gone:,} gone since the last training",
            "",
            "| marker | drift |",
            "|---|---:|",
        ]
        return "\n".join(
            [*lines, *(f"| {name} | {value:.3f} |" for name, value in sorted((self.drift or {}).items(), key=lambda item: -item[1]))]
        )


def compare(place: Workspace, reference: str) -> Change:
    """Hold the annotated data of a workspace against those of the run on the branch `reference`.

    Raises:
        DataError: the data of the reference are not in the cache.
    """
    now = _ids((Layout(place.root).annotated / "rows").glob("*.parquet"))
    if not git.has_branch(place.home, reference):
        return Change(len(now), len(now), 0, None)
    annotated, validated = (_stored(place, reference, folder) for folder in ("data/annotated", "data/validated"))
    before = _ids(path for name, path in annotated.items() if name.startswith("rows/"))
    same = len(now.filter(pc.is_in(now, before)))
    return Change(len(now), len(now) - same, len(before) - same, _drift(place, validated["profile.json"]))


def _stored(place: Workspace, reference: str, folder: str) -> dict[str, Path]:
    found = folder_files(place.home, reference, folder)
    if found is None:
        raise DataError(
            "The data of the last training are not in the DVC cache.",
            where=f"{reference}: {folder}",
            fix=f"`git checkout {reference}` and `dvc pull`; or `git branch -D {reference}` to begin anew",
        )
    return found


def _ids(files: Iterable[Path]) -> pa.ChunkedArray[pa.StringScalar]:
    tables = [pq.read_table(path, columns=["id"]) for path in sorted(files)]
    return pa.concat_tables(tables)["id"]


def _drift(place: Workspace, profile: Path) -> dict[str, float]:
    """Numbers are counted in the bins of the earlier profile, so that both are cut alike."""
    before, layout = read_json(profile), Layout(place.root)
    taxonomy = load_taxonomy(place.root / load_config(place.root / "params.yaml").taxonomy.file)
    frame = load(layout.annotated / "rows", taxonomy, 0).frame
    return distances(make_profile(frame, taxonomy, before), before)
