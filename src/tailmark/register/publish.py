"""One version's files: the model, its evidence, its card, the code that answers with it, and the manifest over all of them."""

from __future__ import annotations

import shutil
from contextlib import redirect_stderr
from importlib import metadata
from io import StringIO
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

from tailmark import provenance, tracking
from tailmark.config import Config
from tailmark.files import read_json, sha256_file, write_text
from tailmark.layout import Layout
from tailmark.modelfolder import ModelInfo
from tailmark.quality import quality_percentiles
from tailmark.register.card import Evidence, render_card
from tailmark.register.manifest import ARTIFACTS, CARD, CODE, EVIDENCE, MANIFEST, MODEL, Lineage, Manifest, hashes, write_manifest

_SERVED = Path(__file__).with_name("served_model.py")
_PACKAGE = Path(__file__).resolve().parents[1]
_NEEDED = ("jinja2", "mlflow", "numpy", "pandas", "pydantic", "rich", "ruamel-yaml", "safetensors", "tokenizers", "torch", "transformers")
_NOT_PARAMS = {"register_", "gate", "tracking"}


def describe(config: Config, layout: Layout, info: ModelInfo, digests: tuple[str, str], run_id: str) -> Manifest:
    """The manifest but for its `files`.

    Args:
        digests: of the model and of the evaluation's metrics.
    """
    model, evidence = digests
    return Manifest(
        name=config.register_.model_name,
        model=model,
        evidence=evidence,
        taxonomy=info.taxonomy,
        base=info.base,
        markers=info.markers,
        placement=info.placement,
        dataset_dropout=info.dataset_dropout,
        sample_dropout=info.sample_dropout,
        quality_percentiles=_quality(layout),
        lineage=_lineage(config, layout, run_id),
        files={},
    )


def _quality(layout: Layout) -> dict[str, dict[str, float]]:
    rows = layout.annotated / "rows"
    return quality_percentiles(rows) if rows.is_dir() else {}


def _lineage(config: Config, layout: Layout, run_id: str) -> Lineage:
    code = provenance.code_version(layout.root, apart_from=("dvc.lock", "params.yaml"))
    lock = layout.root / "dvc.lock"
    return Lineage(
        commit=code["commit"],
        dirty=code["dirty"],
        lock=sha256_file(lock) if lock.exists() else None,
        outputs=provenance.locked_outputs(layout.root),
        params=config.model_dump(mode="json", by_alias=True, exclude=_NOT_PARAMS),
        run=run_id,
    )


def write_version(config: Config, layout: Layout, info: ModelInfo, manifest: Manifest, folder: Path) -> tuple[str, str]:
    """Collect evidence, card, code and manifest in `folder`; returns the card and the sha256 of the manifest."""
    _collect_evidence(layout, folder / EVIDENCE)
    shutil.copytree(_PACKAGE, folder / CODE / _PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    card = render_card(_evidence(config, layout, info, manifest))
    write_text(folder / CARD, card)
    files = {
        **{f"{ARTIFACTS}/{MODEL}/{name}": digest for name, digest in hashes(layout.trained("marked")).items()},
        **{f"{ARTIFACTS}/{EVIDENCE}/{name}": digest for name, digest in hashes(folder / EVIDENCE).items()},
        **{f"{CODE}/{name}": digest for name, digest in hashes(folder / CODE).items()},
        f"{ARTIFACTS}/{CARD}": sha256_file(folder / CARD),
    }
    return card, write_manifest(folder / MANIFEST, manifest.model_copy(update={"files": files}))


def log_version(config: Config, layout: Layout, folder: Path, run_id: str, tags: dict[str, str]) -> Any:
    """Store what `write_version` collected as one logged model of the run; returns MLflow's record of it."""
    import mlflow

    uri = tracking.store_uri(config, layout)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    artifacts = {"model": layout.trained("marked"), "evidence": folder / EVIDENCE, "card": folder / CARD, "manifest": folder / MANIFEST}
    with redirect_stderr(StringIO()), catch_warnings(), mlflow.start_run(run_id=run_id):
        simplefilter("ignore")  # an input example would be run through the model at each registration
        info = mlflow.pyfunc.log_model(
            name="marked",
            python_model=str(_SERVED),
            artifacts={name: str(path) for name, path in artifacts.items()},
            code_paths=[str(folder / CODE / _PACKAGE.name)],
            signature=_signature(),
            pip_requirements=[f"{name}=={metadata.version(name).partition('+')[0]}" for name in _NEEDED],
            metadata=tags,
        )
    return mlflow.get_logged_model(info.model_id)


def _signature() -> Any:
    """Messages in; answer and markers out; `markers` as on the command line, e.g. `lang=French,length_tokens=60`."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array, Map, Object, Property

    message = Object([Property("role", DataType.string), Property("content", DataType.string)])
    return ModelSignature(
        inputs=Schema([ColSpec(Array(message), "messages")]),
        outputs=Schema([ColSpec(DataType.string, "answer"), ColSpec(Map(DataType.string), "markers")]),
        params=ParamSchema([ParamSpec("markers", DataType.string, ""), ParamSpec("max_new_tokens", DataType.integer, 256)]),
    )


def _collect_evidence(layout: Layout, folder: Path) -> None:
    """What a reviewer needs to judge the version, and the gate to compare it: evaluation, training and data reports."""
    folder.mkdir(parents=True)
    sources = {
        "evaluation.json": layout.evaluated / "metrics.json",
        "examples.parquet": layout.evaluated / "examples.parquet",
        "benchmarks.json": layout.evaluated / "benchmarks.json",
        "report.html": layout.evaluated / "report.html",
        "training.json": layout.training_report("marked") / "metrics.json",
        "ingested.json": layout.ingested / "report.json",
        "annotated.json": layout.annotated / "report.json",
        "dvc.lock": layout.root / "dvc.lock",
    }
    for name, path in sources.items():
        if path.exists():
            shutil.copyfile(path, folder / name)


def _evidence(config: Config, layout: Layout, info: ModelInfo, manifest: Manifest) -> Evidence:
    return Evidence(
        config=config,
        info=info,
        manifest=manifest,
        metrics=read_json(layout.evaluated / "metrics.json"),
        ingested=_optional(layout.ingested / "report.json"),
        annotated=_optional(layout.annotated / "report.json"),
        training=_optional(layout.training_report("marked") / "metrics.json"),
    )


def _optional(path: Path) -> dict[str, Any]:
    return dict(read_json(path)) if path.exists() else {}
