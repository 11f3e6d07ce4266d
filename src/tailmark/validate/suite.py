"""The expectations, made from the taxonomy and the config."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tailmark.config import Config, ExpectationGroup
from tailmark.records import HELDOUT, TRAIN
from tailmark.taxonomy import Taxonomy
from tailmark.validate.frame import column, columns, has_buckets, measures_lengths

ORIGINS = ("dataset", "measured", "classifier", "llm")


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
    """

    group: ExpectationGroup
    subject: str
    says: str
    kind: str
    arguments: dict[str, Any]
    only_where: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """`group.subject`: unique in a suite."""
        return f"{self.group}.{self.subject}"


def suite(taxonomy: Taxonomy, config: Config) -> list[Expectation]:
    """All expectations, in a stable order. They look at the frame of `frame.load` with every derived column that applies."""
    return [
        *_table(taxonomy, config),
        *_values(taxonomy),
        *_evidence(taxonomy),
        *_completeness(taxonomy, config),
        *_lengths(taxonomy, config),
        *_tail(config),
    ]


def _table(taxonomy: Taxonomy, config: Config) -> Iterator[Expectation]:
    least = config.validate_.min_rows
    expected = {"column_set": columns(taxonomy), "exact_match": False}
    yield Expectation("schema", "columns", "every column of the schema is there", "ExpectTableColumnsToMatchSet", expected)
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
            yield Expectation("values", name, says, "ExpectColumnValuesToBeInSet", _in(where, list(spec.values)))
        elif spec.minimum is not None or spec.maximum is not None:
            low, high = ("any" if bound is None else f"{bound:g}" for bound in (spec.minimum, spec.maximum))
            bounds = {"column": where, "min_value": spec.minimum, "max_value": spec.maximum}
            yield Expectation("ranges", name, f"{name} is from {low} to {high}", "ExpectColumnValuesToBeBetween", bounds)


def _evidence(taxonomy: Taxonomy) -> Iterator[Expectation]:
    for name in sorted(taxonomy.markers):
        origin, confidence = column("origin", name), {"column": column("confidence", name), "min_value": 0, "max_value": 1}
        says = f"the origin of {name} is a kind of evidence"
        yield Expectation("evidence", f"{name}.origin", says, "ExpectColumnValuesToBeInSet", _in(origin, list(ORIGINS)))
        says = f"the confidence of {name} is from 0 to 1"
        yield Expectation("evidence", f"{name}.confidence", says, "ExpectColumnValuesToBeBetween", confidence)


def _completeness(taxonomy: Taxonomy, config: Config) -> Iterator[Expectation]:
    for name, share in sorted(config.validate_.min_completeness.items()):
        if name in taxonomy.markers:
            says = f"at least {share:.0%} of the rows that {name} applies to have it"
            arguments = {"column": column("markers", name), "mostly": share}
            applies = taxonomy.markers[name].applies_to
            yield Expectation("completeness", name, says, "ExpectColumnValuesToNotBeNull", arguments, applies)


def _lengths(taxonomy: Taxonomy, config: Config) -> Iterator[Expectation]:
    for name in measures_lengths(taxonomy) if config.validate_.remeasure_rows else ():
        says = f"{name} is what a fresh measurement gives, on at most {config.validate_.remeasure_rows:,} rows"
        pair = _pair(column("markers", name), column("remeasured", name))
        yield Expectation("lengths", name, says, "ExpectColumnPairValuesToBeEqual", pair)
    if has_buckets(taxonomy):
        pair = _pair(column("markers", "length_bucket"), column("expected", "length_bucket"))
        yield Expectation("buckets", "length_bucket", "the bucket is that of length_tokens", "ExpectColumnPairValuesToBeEqual", pair)


def _tail(config: Config) -> Iterator[Expectation]:
    marker, least = config.longtail.marker, config.validate_.min_tail_heldout
    says = f"every tail value of {marker} keeps at least {least} held-out rows"
    bounds = {"column": column("tail_heldout", marker), "min_value": least}
    yield Expectation("tail", marker, says, "ExpectColumnValuesToBeBetween", bounds)


def _in(name: str, values: list[str]) -> dict[str, Any]:
    return {"column": name, "value_set": values}


def _pair(first: str, second: str) -> dict[str, Any]:
    return {"column_A": first, "column_B": second, "ignore_row_if": "either_value_is_missing"}
