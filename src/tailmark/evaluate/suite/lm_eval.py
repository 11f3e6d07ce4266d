"""Bridge to the EleutherAI lm-evaluation-harness: any of its tasks, baseline against marked with markers absent."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from numbers import Real
from typing import Any

from tailmark.config import LMEval
from tailmark.console import say
from tailmark.errors import ConfigError
from tailmark.evaluate.benchmarks import Bench
from tailmark.evaluate.sample import Row
from tailmark.evaluate.scores import Measure, Score, ScoredMode
from tailmark.files import sha256_tree
from tailmark.generate.loading import LoadedModel
from tailmark.layout import Layout
from tailmark.taxonomy import MarkerList


class LMEvalProbe:
    """Asks both models through the harness and takes the scores that it gives each document.

    No marker is given. The harness never scores a list: where it compares likelihoods the answer follows the prompt at once, and where
    the model writes, the tokens that begin a list are barred at its first place, as in the mode `absent`.
    """

    name = "lm_eval"

    def __init__(self, options: LMEval, bench: Bench, layout: Layout) -> None:
        self._options, self._seed = options, bench.config.seed
        self._tasks = layout.root / options.include_path if options.include_path else None
        self.measures: list[Measure] = []
        self.not_run: dict[str, str] = {}
        self.found: dict[str, Any] = {}
        self.files: dict[str, dict[str, str | int]] = {}

    def scores(self, bench: Bench) -> list[Score]:
        """Every number that the harness gives a document, as score `<task>.<metric>`.

        Raises:
            ConfigError: a task does not exist, or its data cannot be had.
        """
        if find_spec("lm_eval") is None:
            self.not_run["all tasks"] = "lm-eval is not installed: `pip install -c constraints.txt -r requirements-lm-eval.txt`"
            return []
        if self._tasks is not None:
            if not self._tasks.is_dir():
                raise ConfigError(
                    "The folder with tasks does not exist.", where=str(self._options.include_path), fix="correct `include_path`"
                )
            self.files[str(self._options.include_path)] = {"sha256": sha256_tree(self._tasks)}
        asked: list[tuple[ScoredMode, LoadedModel]] = [("baseline", bench.baseline), ("absent", bench.marked)]
        found: list[Score] = []
        for mode, loaded in asked:
            say(f"  lm-evaluation-harness, {mode}: {', '.join(self._options.tasks)}")
            results = self._evaluate(loaded, bench.config.evaluate.batch_size)
            self.found[mode] = _figures(results)
            self._name_measures(results)
            found += self._scores(results, mode)
        return found

    def _evaluate(self, loaded: LoadedModel, batch_size: int) -> Mapping[str, Any]:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager

        options, settings = self._options, loaded.model.generation_config
        before = settings.begin_suppress_tokens
        settings.begin_suppress_tokens = loaded.list_starts if loaded.writes_lists else before
        try:
            model = HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=batch_size, max_length=_context(loaded))
            results = simple_evaluate(
                model=model,
                tasks=list(options.tasks),
                task_manager=TaskManager(include_path=str(self._tasks) if self._tasks else None),
                num_fewshot=options.shots,
                limit=options.limit,
                apply_chat_template=options.chat_template,
                bootstrap_iters=0,
                random_seed=self._seed,
                numpy_random_seed=self._seed,
                torch_random_seed=self._seed,
                fewshot_random_seed=self._seed,
            )
        # Each task loads its data with code of its own; none of its exceptions is ours.
        except Exception as error:
            raise ConfigError(
                f"A task of the lm-evaluation-harness cannot be run: {' '.join(str(error).split()) or type(error).__name__}",
                where=f"evaluate.benchmarks: lm_eval, tasks {', '.join(options.tasks)}",
                fix="`lm-eval ls tasks` lists them; their data come from the hub, or from files that a task in `include_path` names",
            ) from error
        finally:
            settings.begin_suppress_tokens = before
        return results or {}

    def _name_measures(self, results: Mapping[str, Any]) -> None:
        """One measure for each number of each task, once; the task says which way is better."""
        known = {item.score for item in self.measures}
        for task, document in _documents(results):
            for metric, _ in _numbers(document):
                score = f"{task}.{metric}"
                if score not in known:
                    known.add(score)
                    higher = bool(results["higher_is_better"].get(task, {}).get(metric, True))
                    unit = "share" if metric in _SHARES else metric
                    self.measures.append(Measure(self.name, score, f"{task}, {metric}", unit, higher_is_better=higher))

    def _scores(self, results: Mapping[str, Any], mode: ScoredMode) -> Iterator[Score]:
        for task, document in _documents(results):
            prompt = str(document["arguments"][0][0])
            row = Row(
                id=f"{self.name}/{task}/{document['doc_id']:06d}",
                messages=({"role": "user", "content": prompt},),
                completion=str(document["target"]),
                markers=MarkerList({}),
                labels={},
                tail=False,
                group=f"{task}/{document['doc_hash']}",
            )
            for metric, value in _numbers(document):
                yield Score(row, self.name, mode, f"{task}.{metric}", value)


_SHARES = frozenset({"acc", "acc_norm", "exact_match", "acc_bytes", "acc_mutual_info"})
"""Metrics of the harness that are 0 or 1 for a document."""


def _documents(results: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Task and document, each document once: under the first of the task's filters."""
    for task, documents in sorted(results["samples"].items()):
        first = documents[0]["filter"] if documents else ""
        yield from ((task, document) for document in documents if document["filter"] == first)


def _numbers(document: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The metrics of a document that are numbers; what only has a meaning for all documents together is none."""
    found: Sequence[str] = document["metrics"]
    return [(name, float(document[name])) for name in found if isinstance(document[name], Real)]


def _figures(results: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """What the harness itself reports: task to metric (with its filter) to value."""
    return {
        task: {name: round(float(value), 6) for name, value in entry.items() if isinstance(value, Real)}
        for task, entry in sorted(results["results"].items())
    }


def _context(loaded: LoadedModel) -> int | None:
    """Tokens that the model can take in; None leaves it to the harness."""
    return getattr(loaded.model.config, "max_position_embeddings", None)
