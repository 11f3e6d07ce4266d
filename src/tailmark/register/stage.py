"""The marked model becomes one registered version, with its evidence and card, under an alias.

Nothing is pickled: the version holds the safetensors folder as training wrote it, and the code that answers with it as source.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tailmark import tracking
from tailmark.config import Config
from tailmark.console import duration, say
from tailmark.errors import DataError, ModelError
from tailmark.files import sha256_file, sha256_json, staged_folder, storage_errors, write_json
from tailmark.layout import Layout
from tailmark.modelfolder import ModelInfo, read_model_info
from tailmark.register.card import description
from tailmark.register.fetch import stored_files, verify
from tailmark.register.manifest import ENVELOPE_TAG, MANIFEST_TAG, envelope
from tailmark.register.publish import describe, log_version, write_version
from tailmark.register.registry import Registry, store_errors

_DATA = "data/annotated"


@dataclass(frozen=True)
class Candidate:
    """What is to be registered: the model's folder and info, and the digests that say whether it is registered already."""

    folder: Path
    info: ModelInfo
    model_digest: str
    evidence_digest: str
    reports_digest: str

    @property
    def tags(self) -> dict[str, str]:
        """Tags of the version."""
        return {
            "model_digest": self.model_digest,
            "evidence_digest": self.evidence_digest,
            "reports_digest": self.reports_digest,
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
    candidate = _candidate(config, layout)
    failing = store_errors(tracking.store_uri(config, layout), "The model could not be registered")
    with failing, _tracked(config, layout) as (registry, run_, run_id):
        version = _existing(registry, candidate)
        if version is None:
            with storage_errors(layout.state):
                version = _register(registry, candidate, run_id)
        else:
            say(f"  version {version} holds this model and evidence already")
        registry.client.set_registered_model_alias(registry.name, config.register_.alias, version)
        run_.set_tags({"registered_version": version, "model_digest": candidate.model_digest})
    _write_result(config, layout, candidate, version)
    name, alias = config.register_.model_name, config.register_.alias
    say(f"register: {name} version {version} is '{alias}' (models:/{name}@{alias}), in {duration(time.monotonic() - start)}")


@contextmanager
def _tracked(config: Config, layout: Layout) -> Iterator[tuple[Registry, tracking.Run, str]]:
    """The registry and an open run with its id. Other stages go on without the store; this one waits for it."""
    registry = Registry(config, layout, tracking.connect(config, layout), config.register_.model_name)
    tracking.experiment_id(registry.client, config, layout)
    with tracking.start_run("register", config=config, layout=layout, stage="register") as run_:
        if run_.run_id is None:
            raise ConnectionError("the store does not answer")
        yield registry, run_, run_.run_id


def _candidate(config: Config, layout: Layout) -> Candidate:
    folder, metrics = layout.trained("marked"), layout.evaluated / "metrics.json"
    info = read_model_info(folder, verify=True)
    if not metrics.exists():
        raise DataError("The evaluation's results are missing.", where=str(metrics), fix="run `dvc repro evaluate`, or `dvc checkout`")
    return Candidate(folder, info, sha256_json(info.model_dump(mode="json")), sha256_file(metrics), _reports(config, layout))


def _reports(config: Config, layout: Layout) -> str:
    """Digest of what the gate reads beside the scores: the data's reports, and what the evaluation ran with."""
    paths = (layout.ingested / "report.json", layout.annotated / "report.json", layout.evaluated / "benchmarks.json")
    reports = [sha256_file(path) if path.exists() else None for path in paths]
    return sha256_json({"reports": reports, "evaluate": config.evaluate.model_dump(mode="json")})


def _existing(registry: Registry, candidate: Candidate) -> str | None:
    """The newest version that holds this model with this evidence, whole; None if there is none."""
    from mlflow.exceptions import MlflowException

    for version in registry.versions():
        if candidate.tags.items() <= version.tags.items():
            try:
                with stored_files(registry, version) as folder:
                    verify(folder, version)
            except (ModelError, MlflowException, OSError):
                continue  # its files are gone or damaged: register a whole one
            return str(version.version)
    return None


def _register(registry: Registry, candidate: Candidate, run_id: str) -> str:
    config, layout = registry.config, registry.layout
    digests = (candidate.model_digest, candidate.evidence_digest)
    manifest = describe(config, layout, candidate.info, digests, run_id)
    say("  copying the model, its evidence and its card into the registry")
    with TemporaryDirectory(prefix="tailmark-") as folder:
        card, digest = write_version(config, layout, candidate.info, manifest, Path(folder))
        logged = log_version(config, layout, Path(folder), run_id, candidate.tags)
    lineage = manifest.lineage
    tags = {
        **candidate.tags,
        "profile": config.profile,
        MANIFEST_TAG: digest,
        ENVELOPE_TAG: "{}",
        "commit": lineage.commit,
        "dirty": None if lineage.dirty is None else str(lineage.dirty).lower(),
        "lock": lineage.lock,
        "data": lineage.outputs.get(_DATA),
        **{f"output.{path}": md5 for path, md5 in lineage.outputs.items()},
    }
    _ensure_registered(registry)
    made = registry.client.create_model_version(
        registry.name,
        logged.artifact_location,
        run_id=run_id,
        tags={name: value for name, value in tags.items() if value is not None},
        description=description(card),
        model_id=logged.model_id,
    )
    return _seal(registry, str(made.version))


def _seal(registry: Registry, number: str) -> str:
    """Note the hashes of what MLflow wrote around our files, and read the whole version back."""
    version = registry.client.get_model_version(registry.name, number)
    with stored_files(registry, version) as folder:
        noted = json.dumps(envelope(folder), sort_keys=True)
        registry.client.set_model_version_tag(registry.name, number, ENVELOPE_TAG, noted)
        verify(folder, registry.client.get_model_version(registry.name, number))
    return number


def _ensure_registered(registry: Registry) -> None:
    from mlflow.exceptions import MlflowException

    try:
        registry.client.create_registered_model(registry.name, description="Fine-tuned with training-time markers (arXiv 2506.14702).")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


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
