"""The expectations, made from the taxonomy and the config."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tailmark.config import Config, ExpectationGroup
from tailmark.records import HELDOUT, TRAIN
from tailmark.taxonomy import Taxonomy
from tailmark.validate.derived import has_buckets, has_languages, has_quartiles, measures_forms, measures_lengths
from tailmark.validate.rows import column, columns

ORIGINS = ("dataset", "measured", "classifier", "llm")
COLUMNS, ROWS, DRIFT = "the-columns", "all-rows", "the-drift"
"""Views that are no marker's; a marker's name has no hyphen."""


@dataclass(frozen=True)
class Expectation:
    """One expectation.

    Attributes:
        group: what `validate.stop` names.
        subject: the column or marker it is about; `group.subject` is its name.
        says: the expectation in words.
        kind: the Great Expectations class.
        arguments: its arguments.
        only_where: marker to values; only rows that have one of them for each marker are looked at.
        view: what it looks at, a page of its own in Data Docs: `COLUMNS` (their names), `ROWS`, the columns of a marker by its name, or
            `DRIFT` (one row, one column a marker: its distance from the accepted profile).
    """

    group: ExpectationGroup
    subject: str
    says: str
    kind: str
    arguments: dict[str, Any]
    only_where: dict[str, tuple[str, ...]] = field(default_factory=dict)
    view: str = ROWS

    @property
    def name(self) -> str:
        """`group.subject`: unique in a suite."""
        return f"{self.group}.{self.subject}"

    @property
    def looks_at(self) -> tuple[str, ...]:
        """The frame's columns that decide it."""
        return tuple(self.arguments[key] for key in ("column", "column_A", "column_B") if key in self.arguments)


def suite(taxonomy: Taxonomy, config: Config, drifting: Iterable[str] = ()) -> list[Expectation]:
    """All expectations, in a stable order. They look at the frame of `rows.load` with every derived column that applies.

    Args:
        drifting: the markers whose distribution has an accepted one to be compared with.
    """
    return [
        *_table(taxonomy, config),
        *_values(taxonomy),
        *_evidence(taxonomy, config),
        *_completeness(taxonomy, config),
        *_measured(taxonomy, config),
        *_buckets(taxonomy, config),
        *_language(taxonomy, config),
        *_tail(config),
        *_drift(drifting, config),
    ]


def _table(taxonomy: Taxonomy, config: Config) -> Iterator[Expectation]:
    least = config.validate_.min_rows
    expected = {"column_set": columns(taxonomy), "exact_match": False}
    yield Expectation("schema", "columns", "every column of the schema is there", "ExpectTableColumnsToMatchSet", expected, view=COLUMNS)
    says = "the last message of a prompt is the user's"
    yield Expectation("schema", "prompt", says, "ExpectColumnValuesToBeInSet", _in("last_role", ["user"]))
    yield Expectation("schema", "prompt_present", "every row has a prompt", "ExpectColumnValuesToNotBeNull", {"column": "last_role"})
    chars = {"column": "completion_chars", "min_value": 1}
    yield Expectation("schema", "completion", "every completion holds text", "ExpectColumnValuesToBeBetween", chars)
    for name in ("source_name", "license"):
        yield Expectation("schema", name, f"every row has a {name}", "ExpectColumnValuesToNotBeNull", {"column": name})
    yield Expectation("ids", "present", "every row has an id", "ExpectColumnValuesToNotBeNull", {"column": "id"})
    yield Expectation("ids", "unique", "no two rows have the same id", "ExpectColumnValuesToBeUnique", {"column": "id"})
    yield Expectation("rows", "count", f"there are at least {least:,} rows", "ExpectTableRowCountToBeBetween", {"min_value": least})
    yield Expectation("split", "values", "split is train or heldout", "ExpectColumnValuesToBeInSet", _in("split", [TRAIN, HELDOUT]))


def _values(taxonomy: Taxonomy) -> Iterator[Expectation]:
    for name, spec in sorted(taxonomy.markers.items()):
        where = column("markers", name)
        if spec.kind == "categorical":
            says = f"{name} is one of its {len(spec.values)} values"
            yield Expectation("values", name, says, "ExpectColumnValuesToBeInSet", _in(where, list(spec.values)), view=name)
        elif spec.minimum is not None or spec.maximum is not None:
            low, high = ("any" if bound is None else f"{bound:g}" for bound in (spec.minimum, spec.maximum))
            bounds = {"column": where, "min_value": spec.minimum, "max_value": spec.maximum}
            yield Expectation("ranges", name, f"{name} is from {low} to {high}", "ExpectColumnValuesToBeBetween", bounds, view=name)


def _evidence(taxonomy: Taxonomy, config: Config) -> Iterator[Expectation]:
    for name, spec in sorted(taxonomy.markers.items()):
        origin, confidence = column("origin", name), {"column": column("confidence", name), "min_value": 0, "max_value": 1}
        says = f"the origin of {name} is a kind of evidence"
        yield Expectation("evidence", f"{name}.origin", says, "ExpectColumnValuesToBeInSet", _in(origin, list(ORIGINS)), view=name)
        says = f"the confidence of {name} is from 0 to 1"
        yield Expectation("evidence", f"{name}.confidence", says, "ExpectColumnValuesToBeBetween", confidence, view=name)
        for kind, most in sorted(config.validate_.max_origin.items()) if spec.kind == "categorical" else ():
            says = f"at most {_percent(most)} of the values of {name} come from {kind}"
            other = _in(origin, [kind]) | {"mostly": round(1 - most, 6)}
            yield Expectation("origins", f"{name}.{kind}", says, "ExpectColumnValuesToNotBeInSet", other, view=name)


def _completeness(taxonomy: Taxonomy, config: Config) -> Iterator[Expectation]:
    for name, share in sorted(config.validate_.min_completeness.items()):
        if name in taxonomy.markers:
            says = f"at least {_percent(share)} of the rows that {name} applies to have it"
            arguments = {"column": column("markers", name), "mostly": share}
            applies = taxonomy.markers[name].applies_to
            yield Expectation("completeness", name, says, "ExpectColumnValuesToNotBeNull", arguments, applies, view=name)


def _measured(taxonomy: Taxonomy, config: Config) -> Iterator[Expectation]:
    most = config.validate_.remeasure_rows
    for name in measures_lengths(taxonomy) if most else ():
        says = f"{name} is what a fresh measurement gives, on at most {most:,} rows"
        yield Expectation("lengths", name, says, "ExpectColumnPairValuesToBeEqual", _pair(name, column("measured", name)), view=name)
    for name in measures_forms(taxonomy) if most else ():
        says = f"{name}, where it was measured, is what a fresh measurement gives, on at most {most:,} rows"
        yield Expectation("measured", name, says, "ExpectColumnPairValuesToBeEqual", _pair(name, column("measured", name)), view=name)


def _buckets(taxonomy: Taxonomy, config: Config) -> Iterator[Expectation]:
    if has_buckets(taxonomy):
        pair, says = _pair("length_bucket", column("expected", "length_bucket")), "the bucket is that of length_tokens"
        yield Expectation("buckets", "length_bucket", says, "ExpectColumnPairValuesToBeEqual", pair, view="length_bucket")
    share = config.validate_.min_agreement.get("quality")
    if has_quartiles(taxonomy) and share is not None:
        says = f"on at least {_percent(share)} of the rows the bucket is the quality's quartile within its language"
        bounds = {"column": "quartile_gap", "max_value": 0, "mostly": share}
        yield Expectation("quality", "quality_bucket", says, "ExpectColumnValuesToBeBetween", bounds, view="quality_bucket")


def _language(taxonomy: Taxonomy, config: Config) -> Iterator[Expectation]:
    kinds = {
        "completion": ("language", column("measured", "lang"), "lang is the language that the completion measures as"),
        "prompt": ("prompt", column("prompt", "lang"), "lang is the language of the prompt, where no other is asked for"),
    }
    if not has_languages(taxonomy) or not config.validate_.remeasure_rows:
        return
    for subject, (key, where, says) in kinds.items():
        share = config.validate_.min_agreement.get(key)  # type: ignore[call-overload]
        if share is not None:
            pair = _pair("lang", where) | {"mostly": share}
            says = f"{says}, on at least {_percent(share)} of the rows measured again"
            yield Expectation("language", subject, says, "ExpectColumnPairValuesToBeEqual", pair, view="lang")


def _tail(config: Config) -> Iterator[Expectation]:
    marker = config.longtail.marker
    least = {HELDOUT: config.validate_.min_tail_heldout, TRAIN: config.validate_.min_tail_train}
    for split, subject, word in ((HELDOUT, marker, "held-out"), (TRAIN, f"{marker}.train", "training")):
        says = f"every tail value of {marker} has at least {least[split]} {word} rows"
        bounds = {"column": column(f"tail_{split}", marker), "min_value": least[split]}
        yield Expectation("tail", subject, says, "ExpectColumnValuesToBeBetween", bounds, view=marker)


def _drift(markers: Iterable[str], config: Config) -> Iterator[Expectation]:
    most = config.validate_.max_drift
    for name in markers:
        says = f"the distribution of {name} is within {most:g} of the accepted one (Jensen-Shannon distance)"
        bounds = {"column": name, "max_value": most}
        yield Expectation("drift", name, says, "ExpectColumnValuesToBeBetween", bounds, view=DRIFT)


def _in(name: str, values: list[str]) -> dict[str, Any]:
    return {"column": name, "value_set": values}


def _pair(marker: str, other: str) -> dict[str, Any]:
    return {"column_A": column("markers", marker), "column_B": other, "ignore_row_if": "either_value_is_missing"}


def _percent(share: float) -> str:
    return f"{100 * share:g} %"
