"""Which held-out rows are evaluated, and with which markers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tailmark.config import Config
from tailmark.errors import DataError
from tailmark.files import sha256_json, sha256_tree
from tailmark.generate.modes import shuffled
from tailmark.layout import Layout
from tailmark.longtail import tail_values
from tailmark.records import HELDOUT, TRAIN, Record, annotated_schema, read_rows
from tailmark.taxonomy import MarkerList, MarkerValue, Taxonomy


@dataclass(frozen=True)
class Row:
    """A held-out row.

    Attributes:
        markers: its values of the markers the marked model was trained with.
        labels: its values of all categorical markers, whether or not the model was trained with them: its slices.
        tail: whether its value of the long-tail marker is a tail value.
        group: what rows made from one source text share; they are no independent examples.
    """

    id: str
    messages: tuple[dict[str, str], ...]
    completion: str
    markers: MarkerList
    labels: Mapping[str, str]
    tail: bool
    group: str

    @property
    def question(self) -> str:
        """The last user message."""
        return self.messages[-1]["content"]

    @property
    def lang(self) -> str | None:
        """The completion's language."""
        return self.labels.get("lang")


@dataclass(frozen=True)
class HeldOut:
    """The held-out rows, and what the training rows say of them.

    Attributes:
        rows: sorted by id.
        trained: per categorical marker, training rows by value.
        tail: the tail values of the long-tail marker.
        train_rows: number of training rows.
        digest: hash of the annotated rows' shards.
    """

    rows: tuple[Row, ...]
    trained: Mapping[str, Mapping[str, int]]
    tail: frozenset[str]
    train_rows: int
    digest: str


def read_heldout(config: Config, layout: Layout, taxonomy: Taxonomy, names: Sequence[str]) -> HeldOut:
    """Read the annotated rows; `names`: the markers of the marked model.

    Raises:
        DataError: a shard is missing or corrupt, or no row is held out.
    """
    folder = layout.annotated / "rows"
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    tail_column: list[str | None] = []
    heldout: list[Record] = []
    sliced = [name for name, spec in taxonomy.markers.items() if spec.values]
    for record in read_rows(folder, annotated_schema(taxonomy)):
        if record["split"] == TRAIN:
            tail_column.append(record["markers"].get(config.longtail.marker))
            for name in sliced:
                if (value := record["markers"].get(name)) is not None:
                    counts[name][str(value)] += 1
        elif record["split"] == HELDOUT:
            heldout.append(record)
    if not heldout:
        raise DataError("No row is held out, so nothing can be evaluated.", where=str(folder), fix="set `ingest.heldout_fraction` above 0")
    tail = tail_values(tail_column, config.longtail.threshold)
    ordered = sorted(heldout, key=lambda item: str(item["id"]))
    rows = tuple(_row(record, names, sliced, record["markers"].get(config.longtail.marker) in tail) for record in ordered)
    return HeldOut(rows, {name: dict(values) for name, values in counts.items()}, tail, len(tail_column), sha256_tree(folder))


def _row(record: Record, names: Sequence[str], sliced: Sequence[str], tail: bool) -> Row:
    values: dict[str, MarkerValue | None] = record["markers"]
    return Row(
        id=record["id"],
        messages=tuple({"role": message["role"], "content": message["content"]} for message in record["prompt"]),
        completion=record["completion"],
        markers=MarkerList(values).only(set(names)),
        labels={name: str(values[name]) for name in sliced if values.get(name) is not None},
        tail=tail,
        group=_group(record),
    )


def _group(record: Record) -> str:
    """The source's group key, else the prompt's text: the rule by which the split keeps rows together."""
    group: str | None = record["metadata"].get("group")
    return group or "\n".join(message["content"] for message in record["prompt"])


def draw(rows: Iterable[Row], count: int, *, seed: int, purpose: str) -> list[Row]:
    """`count` rows, as many of the tail as of the head where there are enough; sorted by id.

    Which rows depends on the seed, the purpose and their ids only, so that another row does not change the rest.
    """
    ordered = sorted(rows, key=lambda row: sha256_json([seed, purpose, row.id]))
    tail = [row for row in ordered if row.tail]
    head = [row for row in ordered if not row.tail]
    from_tail = min(len(tail), max(count // 2, count - len(head)))
    return sorted([*tail[:from_tail], *head[: count - from_tail]], key=lambda row: row.id)


def shuffled_markers(rows: Sequence[Row], seed: int) -> list[MarkerList]:
    """Per row its markers with values of other rows (`generate.modes.shuffled`)."""
    return [MarkerList(item) for item in shuffled([row.markers for row in rows], [row.id for row in rows], seed)]
