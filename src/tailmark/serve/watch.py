"""Following an alias: where it moves, the new version is loaded beside the old one and takes its place between two requests."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from tailmark.errors import TailmarkError, TrackingError
from tailmark.serve.models import Models
from tailmark.serve.record import Metrics, note
from tailmark.serve.source import Source

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


class Watcher:
    """Looks the alias up now and then, in a thread of its own.

    A version that cannot be loaded, or is not what was registered, is refused and not tried again; the model that is served goes on.
    """

    def __init__(self, source: Source, models: Models, metrics: Metrics) -> None:
        self._source, self._models, self._metrics = source, models, metrics
        self._refused: str | None = None
        self._away = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after what is being done; it is not waited for."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(self._source.options.poll_s):
            self.look()

    def look(self) -> None:
        """Look once, and exchange the model where the alias has moved."""
        version = self._resolve()
        served = self._models.named(self._source.options.name)
        if version is None or str(version.version) in (served.version, self._refused):
            return
        about = {"alias": self._source.options.model, "serving": served.version, "version": str(version.version)}
        try:
            new = self._source.load_version(version)
        except TrackingError as error:
            note("the new version could not be fetched", logging.WARNING, error=error.what, **about)
            return
        except Exception as error:  # whatever is wrong with it, the old one goes on
            self._refused = str(version.version)
            self._metrics.swaps.labels("refused").inc()
            why = error.what if isinstance(error, TailmarkError) else repr(error)
            note("the new version was refused", logging.ERROR, error=why, **about)
            return
        self._refused = None
        self._models.exchange(new)
        self._metrics.swaps.labels("exchanged").inc()
        note("the model was exchanged", **about)

    def _resolve(self) -> ModelVersion | None:
        from tailmark.register.registry import open_registry

        try:
            with open_registry(self._source.config, self._source.layout) as registry:
                version = registry.resolve(self._source.options.model)
        except TrackingError as error:
            if not self._away:
                note("the alias could not be looked up", logging.WARNING, error=error.what)
            self._away = True
            return None
        self._away = False
        return version
