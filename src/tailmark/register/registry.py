"""The registry as every part of this package sees it: MLflow's client, the model's name, errors with a way out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tailmark import tracking
from tailmark.config import Config
from tailmark.errors import TrackingError
from tailmark.layout import Layout

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

_REFERENCE = re.compile(r"(?:models:/)?(?P<name>[A-Za-z0-9][A-Za-z0-9_.-]*)(?:@(?P<alias>[A-Za-z][A-Za-z0-9_-]*)|/(?P<version>[1-9]\d*))")
_MISSING = "RESOURCE_DOES_NOT_EXIST"


@dataclass(frozen=True)
class Registry:
    """One registered model in one store."""

    config: Config
    layout: Layout
    client: MlflowClient
    name: str

    @property
    def uri(self) -> str:
        """The store's address."""
        return tracking.store_uri(self.config, self.layout)

    def resolve(self, reference: str) -> ModelVersion:
        """The version that `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `@ALIAS` or `VERSION` names.

        Raises:
            TrackingError: it is not of that form, or there is no such version.
        """
        short = {"@": f"{self.name}{reference}"}.get(reference[:1], f"{self.name}/{reference}" if reference.isdigit() else reference)
        match = _REFERENCE.fullmatch(short)
        if match is None:
            raise TrackingError(
                f"'{reference}' does not name a registered version.",
                where=self.uri,
                fix=f"write models:/{self.name}@{self.config.register_.alias}, models:/{self.name}/VERSION, or only the version's number",
            )
        found = self.aliased(match["alias"], match["name"]) if match["alias"] else self._numbered(match["name"], match["version"])
        if found is None:
            raise TrackingError(f"There is no registered version '{reference}'.", where=self.uri, fix=self._known())
        return found

    def aliased(self, alias: str, name: str | None = None) -> ModelVersion | None:
        """The version that has an alias; None: no version has it."""
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_model_version_by_alias(name or self.name, alias)
        except MlflowException as error:
            if error.error_code in (_MISSING, "INVALID_PARAMETER_VALUE"):
                return None
            raise

    def _numbered(self, name: str, version: str) -> ModelVersion | None:
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_model_version(name, version)
        except MlflowException as error:
            if error.error_code == _MISSING:
                return None
            raise

    def registered(self) -> RegisteredModel | None:
        """The registered model; None before anything was registered."""
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_registered_model(self.name)
        except MlflowException as error:
            if error.error_code == _MISSING:
                return None
            raise

    def require_registered(self) -> RegisteredModel:
        """The registered model.

        Raises:
            TrackingError: nothing was registered yet.
        """
        model = self.registered()
        if model is None:
            raise TrackingError(f"Nothing is registered as '{self.name}'.", where=self.uri, fix="run `dvc repro register` first")
        return model

    def versions(self) -> list[ModelVersion]:
        """All versions, the newest first."""
        found: list[ModelVersion] = []
        token: str | None = None
        while True:
            page = self.client.search_model_versions(f"name = '{self.name}'", max_results=1000, page_token=token)
            found += page
            token = page.token
            if not token:
                return sorted(found, key=lambda item: -int(item.version))

    def _known(self) -> str:
        versions = [str(item.version) for item in self.versions()]
        return f"use one of the versions {', '.join(versions[:20])}" if versions else "run `dvc repro register` first"


@contextmanager
def open_registry(config: Config, layout: Layout) -> Iterator[Registry]:
    """The registry of `register.model_name`; what MLflow raises inside the block becomes an error with a way out.

    Raises:
        TrackingError: the store cannot be reached or refuses.
    """
    uri = tracking.store_uri(config, layout)
    with store_errors(uri):
        yield Registry(config, layout, tracking.connect(config, layout), config.register_.model_name)


@contextmanager
def store_errors(uri: str, what: str = "The registry does not answer as it should") -> Iterator[None]:
    """Turn what MLflow raises into an error with a way out."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, ConnectionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TrackingError(
            f"{what}: {reason}",
            where=uri,
            fix="start that server or correct `tracking.uri` (null: a local store), then run the same command again",
        ) from error
