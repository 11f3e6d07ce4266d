"""Columns that expectations compare the rows to: what a fresh measurement gives, and what follows from other columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tailmark.console import Progress
from tailmark.longtail import tail_of
from tailmark.measure.code import code_type
from tailmark.measure.formats import measure_format
from tailmark.measure.language import measure_language
from tailmark.measure.lengths import Lengths, length_bucket, length_steps, measure_lengths
from tailmark.records import HELDOUT, TRAIN, Record
from tailmark.taxonomy import Taxonomy
from tailmark.validate.rows import Annotated, column

LENGTHS = ("length_tokens", "length_sentences", "length_paragraphs")
FORMS = ("code_type", "format")
NOTHING = "none"
"""What is compared where a row says that something was measured and a fresh measurement finds nothing."""


def measures_lengths(taxonomy: Taxonomy) -> tuple[str, ...]:
    """The length markers that the taxonomy has as whole numbers."""
    return tuple(name for name in LENGTHS if name in taxonomy.markers and taxonomy.markers[name].kind == "integer")


def measures_forms(taxonomy: Taxonomy) -> tuple[str, ...]:
    """The other markers that are measured as they are, where the taxonomy has them."""
    return tuple(name for name in FORMS if name in taxonomy.markers and taxonomy.markers[name].kind == "categorical")


def has_languages(taxonomy: Taxonomy) -> bool:
    """Whether the taxonomy has a categorical `lang`."""
    return "lang" in taxonomy.markers and taxonomy.markers["lang"].kind == "categorical"


def has_buckets(taxonomy: Taxonomy) -> bool:
    """Whether the taxonomy has both `length_tokens` and a `length_bucket` with bounds or with the paper's values."""
    bucket = taxonomy.markers.get("length_bucket")
    steps = {value for value, _ in length_steps(taxonomy)}
    return "length_tokens" in measures_lengths(taxonomy) and bucket is not None and steps <= set(bucket.values)


def has_quartiles(taxonomy: Taxonomy) -> bool:
    """Whether the taxonomy has both a number `quality` and a `quality_bucket` with the values 1 to 4."""
    score, bucket = taxonomy.markers.get("quality"), taxonomy.markers.get("quality_bucket")
    return score is not None and score.kind != "categorical" and bucket is not None and set(bucket.values) == {"1", "2", "3", "4"}


def add_bucket(frame: pd.DataFrame, taxonomy: Taxonomy) -> None:
    """`expected.length_bucket`: the bucket that `length_tokens` falls into."""
    counts, places = np.unique(_numbers(frame, "length_tokens"), return_inverse=True)
    steps = length_steps(taxonomy)
    buckets = [None if np.isnan(count) else length_bucket(int(count), steps) for count in counts]
    values = sorted(set(filter(None, buckets)))
    codes = np.array([-1 if bucket is None else values.index(bucket) for bucket in buckets], dtype=np.int8)
    _add_beside(frame, "length_bucket", values, {column("expected", "length_bucket"): codes[places]})


def _numbers(frame: pd.DataFrame, marker: str) -> npt.NDArray[np.float64]:
    return frame[column("markers", marker)].to_numpy(dtype=np.float64, na_value=np.nan)


def _add_beside(frame: pd.DataFrame, marker: str, values: Sequence[str], columns: Mapping[str, npt.NDArray[np.integer]]) -> None:
    """Add categorical columns (codes of `values`, -1 for none) that can be compared with the marker's: all get the same categories."""
    here = frame[column("markers", marker)].cat
    both: Any = [*here.categories, *(value for value in values if value not in here.categories)]
    new = np.array([both.index(value) for value in values] + [-1])
    frame[column("markers", marker)] = pd.Categorical.from_codes(here.codes.to_numpy(), both)
    for name, codes in columns.items():
        frame[name] = pd.Categorical.from_codes(new[codes], both)


def _whole(values: npt.NDArray[np.float64]) -> pd.arrays.IntegerArray:
    """Whole numbers; NaN becomes a missing one."""
    missing = np.isnan(values)
    return pd.arrays.IntegerArray(np.where(missing, 0, values).astype(np.int32), missing)


def add_quartile_gap(frame: pd.DataFrame) -> None:
    """`quartile_gap`: how many quarters `quality_bucket` lies from where `quality` ranks among the training rows of its language.

    Scores of another origin are on another scale and never compared. Rows of one score share a stretch of ranks, and each quarter that
    the stretch or a neighbouring rank reaches is right: quantiles are interpolated in more than one way. None where a row has no score
    or no bucket.
    """
    score, train = _numbers(frame, "quality"), (frame["split"] == TRAIN).to_numpy()
    buckets = frame[column("markers", "quality_bucket")].cat
    bucket = np.append(np.array([float(value) if value in "1234" else np.nan for value in buckets.categories]), np.nan)[buckets.codes]
    gap = np.full(len(frame), np.nan)
    groups = _codes(frame, column("markers", "lang")) * 1_000 + _codes(frame, column("origin", "quality"))
    for group in np.unique(groups[~np.isnan(score)]):
        members = np.flatnonzero((groups == group) & ~np.isnan(score))
        among = members[train[members]]
        low, high = _quarters(score[members], np.sort(score[among if len(among) else members]))
        gap[members] = np.maximum(np.maximum(low - bucket[members], bucket[members] - high), 0)
    frame["quartile_gap"] = _whole(gap)


def _codes(frame: pd.DataFrame, name: str) -> npt.NDArray[np.int64]:
    """The codes of a categorical column; the same for all rows where there is none."""
    values = frame.get(name)
    if values is None or not isinstance(values.dtype, pd.CategoricalDtype):
        return np.zeros(len(frame), dtype=np.int64)
    return values.cat.codes.to_numpy().astype(np.int64)


def _quarters(scores: npt.NDArray[np.float64], ordered: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The first and the last quarter, 1 for the best, that each score may be in among `ordered` scores (ascending)."""
    above, reached = (len(ordered) - np.searchsorted(ordered, scores, side=side) for side in ("right", "left"))
    low, high = (np.clip(np.floor(4 * rank / len(ordered)), 0, 3) + 1 for rank in (above - 1, reached))
    return low, high


def add_tail(frame: pd.DataFrame, marker: str, threshold: float) -> None:
    """`tail_train.<marker>` and `tail_heldout.<marker>`: for rows whose value is in the tail, the value's rows in each split.

    The tail is that of the training rows; a value that only held-out rows have belongs to it.
    """
    values = frame[column("markers", marker)].cat
    codes, names = values.codes.to_numpy(), list(values.categories)
    parts = {split: (frame["split"] == split).to_numpy() for split in (TRAIN, HELDOUT)}
    counts = {split: np.bincount(codes[part & (codes >= 0)], minlength=len(names)) for split, part in parts.items()}
    tail = tail_of(dict(zip(names, counts[TRAIN].tolist(), strict=True)), int(parts[TRAIN].sum()), threshold)
    for split, found in counts.items():
        shown = [float(count) if name in tail else np.nan for name, count in zip(names, found, strict=True)]
        frame[column(f"tail_{split}", marker)] = _whole(np.array([*shown, np.nan])[codes])


@dataclass(frozen=True)
class _Measured:
    """What the texts of one row measure as."""

    lengths: Lengths
    forms: dict[str, str | None]
    lang: str | None
    prompt_lang: str | None


def add_measured(rows: Annotated, taxonomy: Taxonomy, cross_lingual: Mapping[str, Sequence[str]]) -> None:
    """What the sampled rows' texts measure as: `measured.<marker>` for lengths, code type, format and language, and `prompt.lang`.

    Code type and format are left open where the row has them from elsewhere (that is somebody's judgement, not a measurement), the
    language of the prompt where the row has one of the values of `cross_lingual`.
    """
    if not rows.sample:
        return
    found = _measure_all(rows, taxonomy, cross_lingual)
    frame = rows.frame
    for place, name in enumerate(LENGTHS):
        if name in measures_lengths(taxonomy):
            values = np.full(len(frame), np.nan)
            values[list(found)] = [measured.lengths[place] for measured in found.values()]
            frame[column("measured", name)] = _whole(values)
    for name in measures_forms(taxonomy):
        _add_sparse(frame, name, {column("measured", name): {position: measured.forms[name] for position, measured in found.items()}})
    if has_languages(taxonomy):
        langs = {column("measured", "lang"): {position: measured.lang for position, measured in found.items()}}
        langs[column("prompt", "lang")] = {position: measured.prompt_lang for position, measured in found.items()}
        _add_sparse(frame, "lang", langs)


def _add_sparse(frame: pd.DataFrame, marker: str, columns: Mapping[str, Mapping[int, str | None]]) -> None:
    """Add columns that only the sampled rows have a value in: name to position to value."""
    values = sorted({value for found in columns.values() for value in found.values() if value is not None})
    codes = {name: np.full(len(frame), -1, dtype=np.int16) for name in columns}
    for name, found in columns.items():
        for position, value in found.items():
            codes[name][position] = -1 if value is None else values.index(value)
    _add_beside(frame, marker, values, codes)


def _measure_all(rows: Annotated, taxonomy: Taxonomy, cross_lingual: Mapping[str, Sequence[str]]) -> dict[int, _Measured]:
    """Position to what was measured. Rows of one language stand together: some tokenizers take seconds to load."""
    languages = tuple(taxonomy.markers["lang"].values) if has_languages(taxonomy) else ()
    progress = Progress("measuring again", len(rows.sample))
    found = {}
    for position, row in sorted(rows.sample.items(), key=lambda item: str(item[1]["markers"].get("lang"))):
        crosses = any(row["markers"].get(marker) in values for marker, values in cross_lingual.items())
        found[position] = _measure(row, languages, crosses)
        progress.advance()
    return found


def _measure(row: Record, languages: tuple[str, ...], crosses: bool) -> _Measured:
    completion, prompt = row["completion"], row["prompt"][-1]["content"] if row["prompt"] else ""
    lang = measure_language(completion, languages)
    asked = None if crosses else measure_language(prompt, languages)
    measured = [name for name in FORMS if row["origin"].get(name) == "measured"]
    forms = {
        "code_type": (code_type(completion) or NOTHING) if "code_type" in measured else None,
        "format": (measure_format(completion, prompt) or NOTHING) if "format" in measured else None,
    }
    return _Measured(
        measure_lengths(completion, row["markers"].get("lang")), forms, lang.name if lang else None, asked.name if asked else None
    )
