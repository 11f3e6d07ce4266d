"""Options of the data stages: ingest, annotate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from tailmark.config.annotators import Classifier, Quality
from tailmark.config.llm import LLM
from tailmark.config.section import Fraction, Positive, Section
from tailmark.config.sources import Source


class Engine(Section):
    """Where the data stages work on chunks of rows; the results are the same bytes on every engine.

    Attributes:
        kind: `local` are processes of this machine, `ray` is a Ray cluster (installed with requirements-ray.txt).
        address: the cluster, e.g. `auto`, `HOST:6379` or `ray://HOST:10001`; `local` starts one for the run.
        workers: processes or Ray actors; 0 means one a core.
    """

    kind: Literal["local", "ray"] = "local"
    address: str = "auto"
    workers: Annotated[int, Field(ge=0)] = 0


class TaxonomyConfig(Section):
    """Which markers exist.

    Attributes:
        file: the taxonomy, relative to the checkout.
    """

    file: Path = Path("src/tailmark/taxonomy/paper.yaml")


class LongTail(Section):
    """What counts as tail.

    Attributes:
        marker: whose rare values are the tail; categorical.
        threshold: values that fewer than this share of the training rows have (the paper cuts at 5 %).
    """

    marker: str = "domain"
    threshold: Fraction = 0.05


class NearDuplicates(Section):
    """Rows that share most of their runs of words, found by MinHash and then compared exactly: the whole texts (all turns but the
    system's) are that similar, and the completions by themselves are, too.

    Attributes:
        action: `remove` all but one, `group` them, so that they stand on one side of the split, or `keep` them as they are. Rows of
            one group of the source are never compared: it made them of one text on purpose.
        threshold: Jaccard similarity of two sets of runs.
        shingle: words of a run.
        common: runs that more rows than this have (templates, instructions, licences) do not count; 0: all count.
        permutations: hashes of a signature; more find more of the pairs just above the threshold.
    """

    action: Literal["remove", "group", "keep"] = "remove"
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.8
    shingle: Positive = 5
    common: Annotated[int, Field(ge=0)] = 50
    permutations: Annotated[int, Field(ge=16, le=1024)] = 128


class EvaluationSet(Section):
    """Texts that training must not hold.

    Attributes:
        name: what it is called in reports and in `gate.decontaminated`.
        kind: what its files are.
        path: a file, folder, glob or URL, as of a source.
        fields: the fields with the texts, or templates, as of a source.
        subset, split: of a Hugging Face data set.
    """

    name: str
    kind: Literal["jsonl", "csv", "parquet", "huggingface"] = "jsonl"
    path: str
    fields: Annotated[tuple[str, ...], Field(min_length=1)]
    subset: str | None = None
    split: str = "test"


class Decontaminate(Section):
    """Rows that share a run of words with an evaluation set leave.

    Attributes:
        sets: the evaluation sets.
        ngram: words of a run (Brown et al. 2020: 13).
    """

    sets: tuple[EvaluationSet, ...] = ()
    ngram: Annotated[int, Field(ge=5)] = 13


class Ingest(Section):
    """Sources to records: what is read, what leaves, what is held out.

    Attributes:
        sources: where rows come from.
        heldout_fraction: share of the rows that is never trained on.
        rows: a stratified subset of that many rows after deduplication (None: all).
        only: marker to the values from which the subset is taken, e.g. the languages that a small model can write.
        stratify: the markers that the subset keeps in proportion, each inside the one before.
        floor: rows of each of their values that the subset has at least, where the data have them and half of the subset suffices.
        max_completion_chars: a longer completion goes to quarantine.
        near_duplicates: what becomes of rows that are nearly equal.
        decontaminate: texts that training must not hold.
    """

    sources: tuple[Source, ...] = (Source(kind="starter"),)
    heldout_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    rows: Positive | None = None
    only: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    stratify: tuple[str, ...] = ("domain", "lang")
    floor: Positive = 4
    max_completion_chars: Positive = 20_000
    near_duplicates: NearDuplicates = NearDuplicates()
    decontaminate: Decontaminate = Decontaminate()

    @model_validator(mode="after")
    def _own_names(self) -> Ingest:
        names = [source.name or source.kind for source in self.sources]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two sources are called '{twice[0]}'; what is counted by source needs a name for each")
        return self


class Annotate(Section):
    """The annotators beyond what sources state and what is measured; each is off where None.

    Attributes:
        workers: processes; 0 means `engine.workers`.
        classifier: trained on the rows that have a marker, for the others.
        quality: a score of the completions and its quartiles.
        llm: the endpoint that is asked for what no other evidence gives.
    """

    workers: Annotated[int, Field(ge=0)] = 0
    classifier: Classifier | None = None
    quality: Quality | None = None
    llm: LLM | None = None
