"""What validation found as one HTML file that fetches nothing and is the same for the same inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from tailmark.config import Config
from tailmark.files import read_json
from tailmark.layout import Layout
from tailmark.records import HELDOUT, TRAIN, Record
from tailmark.validate.findings import Findings
from tailmark.validate.page import tables
from tailmark.validate.page.quarantine import cut, left


def data_page(findings: Findings, config: Config, layout: Layout) -> str:
    """The whole page. Reports and quarantines of `ingest` and `annotate` are shown where they are there."""
    environment = Environment(
        loader=PackageLoader("tailmark.validate.page", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "thousands": _thousands}
    frame, profile, marker = findings.rows.frame, findings.profile, config.longtail.marker
    stages = {"ingest": layout.ingested, "annotate": layout.annotated}
    ingested, annotated = (_report(folder) for folder in stages.values())
    tails = tables.tails(profile, findings.taxonomy, config.longtail.threshold, marker)
    return environment.get_template("template.html").render(
        headline=_headline(findings),
        failed=findings.failed,
        extent=findings.extent,
        outcomes=findings.outcomes,
        rows=profile["rows"],
        config=config,
        tails=tails,
        spreads=tables.spreads(frame, findings.taxonomy),
        together=[tables.together(frame, *pair) for pair in tables.pairs(profile, marker)],
        evidence=tables.evidence(frame, findings.taxonomy),
        sources=tables.sources(ingested) if "sources" in ingested else None,
        classifier=tables.classifiers(annotated.get("classifier", {})),
        left=[left(name, folder) for name, folder in stages.items() if (folder / "quarantine.parquet").exists()],
        moves=tables.moves(profile, findings.accepted, findings.drift, config.validate_.max_drift) if findings.accepted else None,
        examples=[(tail["marker"], list(_examples(tail, findings))) for tail in tails],
        taxonomy=findings.taxonomy,
    )


def _headline(findings: Findings) -> str:
    total = len(findings.outcomes)
    stopping = sum(outcome.severity == "stop" for outcome in findings.failed)
    held = f"all {total}" if not findings.failed else f"{total - len(findings.failed)} of {total}"
    end = f", and {stopping} that must hold {'do' if stopping > 1 else 'does'} not." if stopping else "."
    return f"{len(findings.rows.frame):,} rows hold {held} expectations{end}"


def _percent(share: float, digits: int = 0) -> str:
    """A share as a percentage; what is not none is never shown as none."""
    least = 10.0 ** -(digits + 2)
    return f"under {least:.{digits}%}" if 0 < share < least / 2 else f"{share:.{digits}%}"


def _thousands(count: float) -> str:
    return f"{count:,.0f}"


def _report(folder: Path) -> dict[str, Any]:
    path = folder / "report.json"
    found: dict[str, Any] = read_json(path) if path.exists() else {}
    return found


def _examples(tail: Mapping[str, Any], findings: Findings) -> Iterator[dict[str, Any]]:
    """The tail values of one marker with their first rows, the rarest first."""
    for bar in reversed([bar for bar in tail["bars"] if bar["tail"]]):
        rows = findings.rows.examples.get((tail["marker"], bar["value"]), [])
        yield {"value": bar["value"], "train": bar[TRAIN], "heldout": bar[HELDOUT], "rows": [_example(row) for row in rows]}


def _example(row: Record) -> dict[str, Any]:
    return {
        "id": row["id"],
        "source": row["source_name"],
        "prompt": cut("\n".join(message["content"] for message in row["prompt"])),
        "completion": cut(row["completion"]),
        "markers": {name: value for name, value in sorted(row["markers"].items()) if value is not None},
    }
