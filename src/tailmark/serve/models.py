"""The models that are served, each with its engine; one can be exchanged for another while requests go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tailmark.errors import TaxonomyError
from tailmark.modelfolder import ModelInfo
from tailmark.quality import Percentiles
from tailmark.serve.engine import Engine
from tailmark.serve.errors import APIError
from tailmark.serve.prompt import Prompts
from tailmark.taxonomy import MarkerValue, Taxonomy


@dataclass
class Served:
    """A model, ready to answer.

    Attributes:
        name: what requests call it.
        version: in the registry; None: it is served from a folder.
        digest: of all that its answers depend on.
        context: most tokens of prompt and completion together.
        source: where it came from, for people.
    """

    name: str
    version: str | None
    digest: str
    source: str
    info: ModelInfo
    taxonomy: Taxonomy
    percentiles: Percentiles
    tokenizer: Any
    context: int
    engine: Engine
    since: int = field(default_factory=lambda: int(time.time()))

    @cached_property
    def prompts(self) -> Prompts:
        """Makes its prompts."""
        return Prompts(self.tokenizer)

    @property
    def fingerprint(self) -> str:
        """Version and digest."""
        return f"{self.version or 'folder'}-{self.digest[:12]}"

    def typed(self, markers: Mapping[str, str]) -> dict[str, MarkerValue]:
        """Markers that the model wrote, numbers as numbers; what the taxonomy does not allow stays the text that it is."""
        return {name: self._typed(name, value) for name, value in markers.items()}

    def _typed(self, name: str, value: str) -> MarkerValue:
        try:
            return self.taxonomy.typed(name, value)
        except TaxonomyError:
            return value


class Models:
    """What is served, by name. A model that was exchanged is let go of after the last request that uses it."""

    def __init__(self, served: Sequence[Served]) -> None:
        self._lock = threading.Lock()
        self._current = {item.name: item for item in served}
        self._users: dict[int, int] = {}
        self._retired: dict[int, Served] = {}

    @property
    def all(self) -> list[Served]:
        """Those that are served now."""
        return list(self._current.values())

    def named(self, name: str) -> Served:
        """The model that requests call so.

        Raises:
            APIError: there is none (404).
        """
        if name not in self._current:
            known = ", ".join(sorted(self._current))
            raise APIError(404, f"There is no model '{name}' here. Use one of: {known}.", "model_not_found", "model")
        return self._current[name]

    @contextmanager
    def use(self, name: str) -> Iterator[Served]:
        """The model that requests call so, kept until the block ends."""
        with self._lock:
            served = self.named(name)
            self._users[id(served)] = self._users.get(id(served), 0) + 1
        try:
            yield served
        finally:
            with self._lock:
                self._users[id(served)] -= 1
            self._let_go(served)

    def exchange(self, new: Served) -> None:
        """Serve `new` from the next request on."""
        with self._lock:
            old = self._current.get(new.name)
            self._current[new.name] = new
            if old is not None:
                self._retired[id(old)] = old
        if old is not None:
            self._let_go(old)

    def close(self) -> None:
        """End all engines."""
        with self._lock:
            everything = [*self._current.values(), *self._retired.values()]
            self._retired.clear()
        for served in everything:
            served.engine.close()

    def _let_go(self, served: Served) -> None:
        with self._lock:
            if self._users.get(id(served), 0) or self._retired.pop(id(served), None) is None:
                return
            self._users.pop(id(served), None)
        _in_background(served.engine.close)


def _in_background(work: Callable[[], None]) -> None:
    """The last request must not wait for an engine's last step."""
    threading.Thread(target=work, daemon=True).start()
