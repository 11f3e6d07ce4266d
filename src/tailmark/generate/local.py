"""A model of this machine as a `Generator`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tailmark.console import Progress
from tailmark.generate.decode import generate_batches
from tailmark.generate.loading import LoadedModel
from tailmark.generate.request import Answer, Request
from tailmark.generate.store import AnswerStore, request_key


class LocalModel:
    """Answers requests with a loaded model, in batches.

    Args:
        store: a file in which answers are kept as they are made, so that a run that was killed goes on (None: they are not kept).
    """

    def __init__(self, loaded: LoadedModel, *, batch_size: int, store: Path | None = None) -> None:
        self.loaded, self._batch_size = loaded, batch_size
        self._store = None if store is None else AnswerStore(store)

    def answer(self, requests: Sequence[Request], *, max_new_tokens: int, what: str | None = None) -> list[Answer]:
        """Answers in the order of the requests; equal requests are answered once.

        Args:
            max_new_tokens: most tokens of an answer; a marker list has its own allowance beside them.
            what: the name of the work, shown with its progress (None: nothing is shown).
        """
        keys = [request_key(self.loaded.digest, request, max_new_tokens) for request in requests]
        answers = {key: kept for key in keys if self._store is not None and (kept := self._store.get(key))}
        new = {key: request for key, request in zip(keys, requests, strict=True) if key not in answers}
        progress = Progress(what, len(answers) + len(new), "prompts", done=len(answers)) if what else None
        names = list(new)
        for batch in generate_batches(self.loaded, list(new.values()), max_new_tokens=max_new_tokens, batch_size=self._batch_size):
            made = {names[place]: answer for place, answer in batch.items()}
            answers |= made
            if self._store is not None:
                self._store.add(made)
            if progress:
                progress.advance(len(made))
        if progress:
            progress.close()
        return [answers[key] for key in keys]
