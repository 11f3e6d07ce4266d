"""The marked model becomes one registered version, with its evidence and card, under an alias.

Nothing is pickled: the version holds the safetensors folder as training wrote it, and the code that answers with it as source.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from importlib import metadata
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, simplefilter

from tailmark import tracking
from tailmark.config import Config
from tailmark.console import duration, say
from tailmark.errors import DataError, ModelError, TrackingError
from tailmark.files import read_json, sha256_file, sha256_json, staged_folder, storage_errors, write_json, write_text
from tailmark.layout import Layout
from tailmark.modelfolder import ModelInfo, read_model_info
from tailmark.register.card import Evidence, body, render_card

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SERVED = Path(__file__).with_name("served_model.py")
_PACKAGE = Path(__file__).resolve().parents[1]
_NEEDED = ("jinja2", "mlflow", "numpy", "pandas", "pydantic", "ruamel-yaml", "safetensors", "tokenizers", "torch", "transformers")
MODEL, EVIDENCE, CARD = "model", "evidence", "README.md"


@dataclass(frozen=True)
class Candidate:
    """What is to be registered: the model's folder and info, and the digests that say whether it is registered already."""

    folder: Path
    info: ModelInfo
    model_digest: str
    evidence_digest: str

    @property
    def tags(self) -> dict[str, str]:
        """Tags of the version."""
        return {
            "model_digest": self.model_digest,
            "evidence_digest": self.evidence_digest,
            "taxonomy": self.info.taxonomy,
            "base": self.info.base,
        }


def run(config: Config, layout: Layout) -> None:
    """Register `models/marked` as `register.model_name` and move `register.alias` to it; a version that is already there is kept.

    Raises:
        ModelError: the model folder is incomplete or has changed, before or after registration.
        DataError: the evaluation's results are missing.
        TrackingError: the registry cannot be reached.
        StorageError: the disk is full.
    """
    start = time.monotonic()
    say("register: verifying the model's files")
    candidate = _candidate(layout)
    uri = tracking.store_uri(config, layout)
    with tracking.start_run("register", config=config, layout=layout, stage="register") as run_, _store_errors(uri):
        if run_.run_id is None:
            raise ConnectionError("the store does not answer")
        client = tracking.connect(config, layout)
        version = _existing(client, config, candidate)
        if version is None:
            with storage_errors(layout.state):
                version = _register(client, config, layout, candidate, run_.run_id)
        else:
            say(f"  version {version} holds this model and evidence already")
        client.set_registered_model_alias(config.register_.model_name, config.register_.alias, version)
        run_.set_tags({"registered_version": version, "model_digest": candidate.model_digest})
    _write_result(config, layout, candidate, version)
    name, alias = config.register_.model_name, config.register_.alias
    say(f"register: {name} version {version} is '{alias}' (models:/{name}@{alias}), in {duration(time.monotonic() - start)}")


@contextmanager
def _store_errors(uri: str) -> Iterator[None]:
    """Turn what MLflow raises into an error with a way out."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, ConnectionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TrackingError(
            f"The model could not be registered: {reason}",
            where=uri,
            fix="start that server or correct `tracking.uri` (null: a local store), then run the same command again",
        ) from error


def _candidate(layout: Layout) -> Candidate:
    folder, metrics = layout.trained("marked"), layout.evaluated / "metrics.json"
    info = read_model_info(folder, verify=True)
    if not metrics.exists():
        raise DataError("The evaluation's results are missing.", where=str(metrics), fix="run `dvc repro evaluate`, or `dvc checkout`")
    return Candidate(folder, info, sha256_json(info.model_dump(mode="json")), sha256_file(metrics))


def _existing(client: MlflowClient, config: Config, candidate: Candidate) -> str | None:
    """The newest version that holds this model with this evidence, whole; None if there is none."""
    from mlflow.exceptions import MlflowException

    found = client.search_model_versions(f"name = '{config.register_.model_name}'")
    for version in sorted(found, key=lambda item: -int(item.version)):
        if candidate.tags.items() <= version.tags.items():
            try:
                _verify(client, config, str(version.version), candidate)
            except (ModelError, MlflowException, OSError):
                continue  # its files are gone or damaged: register a whole one
            return str(version.version)
    return None


def _register(client: MlflowClient, config: Config, layout: Layout, candidate: Candidate, run_id: str) -> str:
    name = config.register_.model_name
    card = render_card(_evidence(config, layout, candidate.info))
    say("  copying the model, its evidence and its card into the registry")
    with TemporaryDirectory(prefix="tailmark-") as folder:
        logged = _log(config, layout, candidate, card, run_id, Path(folder))
    _ensure_registered(client, name)
    tags = {**candidate.tags, "profile": config.profile}
    made = client.create_model_version(
        name, logged.artifact_location, run_id=run_id, tags=tags, description=body(card), model_id=logged.model_id
    )
    version = str(made.version)
    _verify(client, config, version, candidate)
    return version


def _log(config: Config, layout: Layout, candidate: Candidate, card: str, run_id: str, folder: Path) -> Any:
    """Store model, evidence, card and code as one logged model of the run; returns MLflow's record of it."""
    import mlflow

    write_text(folder / CARD, card)
    _collect_evidence(layout, folder / EVIDENCE)
    code = shutil.copytree(_PACKAGE, folder / "code" / _PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    uri = tracking.store_uri(config, layout)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    with redirect_stderr(StringIO()), catch_warnings(), mlflow.start_run(run_id=run_id):
        simplefilter("ignore")  # an input example would be run through the model at each registration
        info = mlflow.pyfunc.log_model(
            name="marked",
            python_model=str(_SERVED),
            artifacts={MODEL: str(candidate.folder), EVIDENCE: str(folder / EVIDENCE), "card": str(folder / CARD)},
            code_paths=[str(code)],
            signature=_signature(),
            pip_requirements=[f"{name}=={metadata.version(name).partition('+')[0]}" for name in _NEEDED],
            metadata=candidate.tags,
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
    """What a reviewer needs to judge the version: evaluation, training and data reports."""
    folder.mkdir(parents=True)
    sources = {
        "evaluation.json": layout.evaluated / "metrics.json",
        "report.html": layout.evaluated / "report.html",
        "training.json": layout.training_report("marked") / "metrics.json",
        "ingested.json": layout.ingested / "report.json",
        "annotated.json": layout.annotated / "report.json",
    }
    for name, path in sources.items():
        if path.exists():
            shutil.copyfile(path, folder / name)
    lock = layout.root / "dvc.lock"
    if lock.exists():
        shutil.copyfile(lock, folder / "dvc.lock")


def _ensure_registered(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description="Fine-tuned with training-time markers (arXiv 2506.14702).")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _verify(client: MlflowClient, config: Config, version: str, candidate: Candidate) -> None:
    """Compare the sha256 of every file the registry holds with what training wrote."""
    import mlflow

    uri = client.get_model_version_download_uri(config.register_.model_name, version)
    folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=f"{uri.rstrip('/')}/artifacts/{candidate.folder.name}"))
    if read_model_info(folder, verify=True) != candidate.info:
        raise ModelError(f"Version {version} in the registry holds another model.", where=uri, fix="run `tailmark register` again")


def _write_result(config: Config, layout: Layout, candidate: Candidate, version: str) -> None:
    result = {
        "name": config.register_.model_name,
        "alias": config.register_.alias,
        "version": version,
        "model": candidate.model_digest,
        "evidence": candidate.evidence_digest,
    }
    with staged_folder(layout.registered) as folder:
        write_json(folder / "result.json", result)


def _evidence(config: Config, layout: Layout, info: ModelInfo) -> Evidence:
    return Evidence(
        config=config,
        info=info,
        metrics=read_json(layout.evaluated / "metrics.json"),
        ingested=_optional(layout.ingested / "report.json"),
        training=_optional(layout.training_report("marked") / "metrics.json"),
    )


def _optional(path: Path) -> Mapping[str, Any]:
    return dict(read_json(path)) if path.exists() else {}
