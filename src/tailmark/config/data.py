"""Options of the data stages: ingest, annotate, validate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from tailmark.config.section import Fraction, Positive, Section


class TaxonomyConfig(Section):
    """`file`: the taxonomy, relative to the checkout."""

    file: Path = Path("src/tailmark/taxonomy/paper.yaml")


class LongTail(Section):
    """What counts as tail: values of `marker` that fewer than `threshold` of the training rows have (the paper cuts at 5 %)."""

    marker: str = "domain"
    threshold: Fraction = 0.05


class Source(Section):
    """One source of rows.

    `starter` needs nothing else. `jsonl` and `parquet` need `path`, and either `prompt` and `completion` (column names; `prompt` may
    hold text or messages) or `messages` (a column of chat messages; the last assistant turn is the completion).

    Attributes:
        path: a file, a folder or a glob, local.
        system: the column with a system message, if any.
        license: the licence of all rows, or the column that holds it as `column:NAME`.
        markers: marker name to column name; a value map and constants come with `values` and `constants`.
        values: per marker, source value to taxonomy value.
        constants: marker name to the value of every row.
    """

    kind: Literal["starter", "jsonl", "parquet"]
    name: str | None = None
    path: str | None = None
    prompt: str | None = None
    completion: str | None = None
    messages: str | None = None
    system: str | None = None
    license: str = "unknown"
    markers: dict[str, str] = Field(default_factory=dict)
    values: dict[str, dict[str, str]] = Field(default_factory=dict)
    constants: dict[str, str | int | float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _complete(self) -> Source:
        if self.kind != "starter":
            if not self.path or not self.name:
                raise ValueError(f"a {self.kind} source needs `name` and `path`")
            if (self.messages is None) == (self.prompt is None or self.completion is None):
                raise ValueError("name either `prompt` and `completion`, or `messages`")
        return self


class Ingest(Section):
    """`rows`: a stratified subset of that many rows after deduplication (None: all); `stratify`: the markers it keeps in proportion,
    each inside the one before, with at least `floor` rows of each value where the data have them and half of the subset suffices;
    `only`: marker to the values from which the subset is taken, e.g. the languages that a small model can write."""

    sources: tuple[Source, ...] = (Source(kind="starter"),)
    heldout_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    rows: Positive | None = None
    only: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    stratify: tuple[str, ...] = ("domain", "lang")
    floor: Positive = 4
    max_completion_chars: Positive = 20_000


class Annotate(Section):
    """`workers`: processes; 0 means one a core."""

    workers: Annotated[int, Field(ge=0)] = 0


ExpectationGroup = Literal["schema", "ids", "rows", "split", "values", "ranges", "evidence", "completeness", "lengths", "buckets", "tail"]


class Validate(Section):
    """Thresholds of the expectations.

    Attributes:
        stop: the groups of expectations that stop the pipeline when they fail; the others warn.
        min_completeness: share of the rows that have a value of the marker, where its `applies_to` holds.
        min_tail_heldout: held-out rows that each tail value keeps, so that evaluation can say something of it.
        remeasure_rows: rows whose lengths are measured again and compared.
    """

    stop: tuple[ExpectationGroup, ...] = tuple(group for group in get_args(ExpectationGroup) if group != "tail")
    min_rows: Positive = 100
    min_completeness: dict[str, Fraction] = Field(default_factory=lambda: {"lang": 0.9, "length_tokens": 1.0, "length_bucket": 1.0})
    min_tail_heldout: Annotated[int, Field(ge=0)] = 1
    remeasure_rows: Annotated[int, Field(ge=0)] = 200
