"""Where a served model comes from: a folder, or a version of the registry through its verified loader."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import AutoConfig, AutoTokenizer

from tailmark import quality
from tailmark.chat import require_marker_template
from tailmark.config import Config
from tailmark.config.serving import Serve
from tailmark.errors import ConfigError, ModelError
from tailmark.files import sha256_json
from tailmark.generate.loading import load_model
from tailmark.layout import Layout
from tailmark.modelfolder import TAXONOMY, ModelInfo, read_model_info
from tailmark.serve.engine import Engine
from tailmark.serve.models import Served
from tailmark.taxonomy import load_taxonomy

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

REGISTERED = "models:/"
BASELINE = "baseline"


@dataclass(frozen=True)
class Found:
    """A model folder whose files were compared with what was written.

    Attributes:
        version: in the registry; None: it is a folder of this machine.
    """

    folder: Path
    version: str | None
    info: ModelInfo


@dataclass(frozen=True)
class Source:
    """Where the model comes from.

    Attributes:
        options: `model` is a folder or `models:/NAME@ALIAS`.
    """

    config: Config
    layout: Layout
    options: Serve

    @property
    def registered(self) -> bool:
        """Whether it is a version of the registry."""
        return self.options.model.startswith(REGISTERED)

    @property
    def follows(self) -> bool:
        """Whether another version can take its place while it is served: not in another server, which has its own."""
        return self.registered and "@" in self.options.model and self.options.engine is None

    def load(self) -> Served:
        """The marked model.

        Raises:
            ModelError: it is missing, changed, or a baseline.
            TrackingError: the registry is away, or there is no such version.
        """
        if not self.registered:
            return self._serve(self.options.name, _folder(Path(self.options.model), "--model"))
        from tailmark.register.registry import open_registry

        with open_registry(self.config, self.layout) as registry:
            version = registry.resolve(self.options.model)
        return self.load_version(version)

    def load_version(self, version: ModelVersion) -> Served:
        """A version of the registry."""
        from tailmark.register.fetch import fetch
        from tailmark.register.registry import open_registry

        with open_registry(self.config, self.layout) as registry:
            fetched = fetch(registry, version)
        return self._serve(self.options.name, Found(fetched.model, fetched.version, read_model_info(fetched.model)))

    def load_baseline(self) -> Served | None:
        """The model without markers that is served for comparison; None: none was named.

        Raises:
            ModelError: the folder is missing, changed, or not a baseline.
            ConfigError: another server decodes.
        """
        if self.options.baseline is None:
            return None
        if self.options.engine is not None:
            fix = "leave one of them out; that server has one model"
            raise ConfigError("A baseline cannot be decoded by another server.", where="--baseline, --engine", fix=fix)
        found = _folder(Path(self.options.baseline), "--baseline")
        if found.info.arm != BASELINE:
            raise ModelError("This is no baseline: it was trained with markers.", where=str(found.folder), fix="give models/baseline")
        return self._serve(BASELINE, found)

    @property
    def baseline_missing(self) -> str | None:
        """Why there is no baseline; None: there is one."""
        if self.options.baseline is not None:
            return None
        if self.registered:
            return "A registered version holds the marked model alone; start with --baseline FOLDER to compare it with its baseline."
        return "None was given; start with --baseline FOLDER (models/baseline after a run of the pipeline)."

    def _serve(self, name: str, found: Found) -> Served:
        if name != BASELINE and found.info.arm == BASELINE:
            raise ModelError(
                "This is the baseline: it was trained without markers.",
                where=str(found.folder),
                fix="serve the marked model (models/marked), and this one beside it with --baseline",
            )
        engine, tokenizer = self._engine(found)
        own = int(AutoConfig.from_pretrained(found.folder).get_text_config().max_position_embeddings)
        served = Served(
            name=name,
            version=found.version,
            digest=sha256_json(found.info.model_dump(mode="json")),
            source=self.options.model if name != BASELINE else str(found.folder),
            info=found.info,
            taxonomy=load_taxonomy(found.folder / TAXONOMY),
            percentiles=quality.percentiles_of(found.folder.resolve()) if quality.SCORE in found.info.markers else {},
            tokenizer=tokenizer,
            context=min(own, engine.context or own),
            engine=engine,
        )
        served.prompts  # noqa: B018 -- made now, not while the first requests wait for it
        return served

    def _engine(self, found: Found) -> tuple[Engine, Any]:
        options = self.options
        if options.engine is not None:
            from tailmark.serve.remote import RemoteEngine

            tokenizer = AutoTokenizer.from_pretrained(found.folder)
            require_marker_template(tokenizer, found.folder)
            return RemoteEngine(options.engine, tokenizer, found.info, places=options.batch_size, queue=options.queue), tokenizer
        from tailmark.serve.local import LocalEngine

        loaded = load_model(found.folder)
        return LocalEngine(loaded, batch_size=options.batch_size, queue=options.queue), loaded.tokenizer


def _folder(folder: Path, option: str) -> Found:
    if not folder.is_dir():
        raise ModelError(
            "There is no such model folder.",
            where=f"{option} {folder}",
            fix=f"give a folder that `tailmark train` wrote, or {REGISTERED}NAME@ALIAS for a registered version",
        )
    return Found(folder, None, read_model_info(folder, verify=True))
