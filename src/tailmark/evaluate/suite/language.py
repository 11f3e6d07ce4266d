"""The Language Confusion Benchmark: is every line of an answer in the language asked for?"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from tailmark.config import LanguageConfusion
from tailmark.errors import DataError
from tailmark.evaluate.benchmarks import Bench
from tailmark.evaluate.control import LANG
from tailmark.evaluate.scores import Measure, ScoredMode
from tailmark.evaluate.suite.base import Item, Judged
from tailmark.evaluate.suite.data import Files
from tailmark.evaluate.suite.passes import IDENTIFIERS, PassChecker, Passes, pass_rates, read_words
from tailmark.evaluate.suite.prompts import CONTROL_MODES
from tailmark.files import sha256_file, sha256_json
from tailmark.generate.request import Answer
from tailmark.layout import Layout
from tailmark.measure.language import CODES

NAME = "language_confusion"
_NAMES = {code: name for name, code in CODES.items()}


class LanguageConfusionBenchmark(Judged):
    """Prompts are asked as they are; modes that give markers also give `lang`.

    Scores: `counts`, and of the answers that do `line` and `word` (see `passes`), 1 or 0. `found` has the rates as the benchmark
    averages them.
    """

    name = NAME
    measures = (
        Measure(NAME, "line", "Language confusion: every line in the language", "share", higher_is_better=True),
        Measure(NAME, "word", "Language confusion: no English word", "share", higher_is_better=True),
    )
    modes = CONTROL_MODES

    def __init__(self, options: LanguageConfusion, bench: Bench, layout: Layout) -> None:
        self._options, self._seed = options, bench.config.seed
        self._files = Files(layout.root, options.path)
        self.files = self._files.digests
        self.found: dict[str, Any] = {}
        self.not_run = {} if LANG in bench.marked.info.markers else {"the marker": "the model was not trained with lang"}
        words = read_words(layout.root / options.words) if options.words else None
        if options.words:
            file = layout.root / options.words
            self.files[str(options.words)] = {"bytes": file.stat().st_size, "sha256": sha256_file(file)}
        self._checker = PassChecker(IDENTIFIERS[options.identifier], words)

    def load(self) -> Sequence[Item]:
        """The prompts of the settings, sources and languages asked for.

        Raises:
            DataError: a file is not one of the benchmark's, or nothing is left.
        """
        items = [item for name, content in self._files.contents() for item in self._items(name, content)]
        if not items:
            raise DataError(
                "No prompt of the Language Confusion Benchmark is left.",
                where=self._options.path,
                fix="name its CSV files (.../<setting>/<source>/<language>.csv), or widen `settings`, `sources` and `languages`",
            )
        return _spread(items, self._options.limit, self._seed)

    def _items(self, name: str, content: bytes) -> Iterator[Item]:
        path = PurePosixPath(name.split("::")[0])
        setting, source, lang = path.parts[-3] if len(path.parts) > 2 else "", path.parent.name, path.stem
        options = self._options
        wanted = setting in options.settings and source in (options.sources or (source,)) and lang in (options.languages or (lang,))
        if path.suffix != ".csv" or not wanted:
            return
        for number, row in enumerate(csv.DictReader(io.StringIO(content.decode("utf-8")))):
            yield _item(row, setting, source, lang, number, name)

    def score(self, item: Item, answer: Answer) -> Mapping[str, float]:
        """Whether the answer counts, and the passes where it does, as 1 or 0."""
        passes = self._passes(item, answer)
        found = {name: float(value) for name, value in passes._asdict().items() if value is not None}
        return found | {"counts": float(passes.line is not None)}

    def _passes(self, item: Item, answer: Answer) -> Passes:
        return self._checker.passes(answer.text, str(item.data["code"]))

    def judge(
        self, items: Sequence[Item], answers: Mapping[ScoredMode, Sequence[Answer]]
    ) -> Mapping[ScoredMode, Sequence[Mapping[str, float]]]:
        """Adds no score; notes the rates by setting, source and language."""
        rates: dict[str, Any] = {}
        for setting in self._options.settings:
            for mode, given in answers.items():
                graded = [
                    (item.data["source"], item.data["code"], self._passes(item, answer))
                    for item, answer in zip(items, given, strict=True)
                    if item.data["setting"] == setting
                ]
                if graded:
                    rates.setdefault(setting, {})[mode] = pass_rates(graded)
        self.found = {"identifier": self._options.identifier, "word_list": str(self._options.words or "none"), "rates": rates}
        return {}


def _item(row: Mapping[str, str], setting: str, source: str, lang: str, number: int, file: str) -> Item:
    if not row.get("prompt") or lang not in _NAMES:
        raise DataError(
            f"Row {number + 1} is none of the Language Confusion Benchmark.",
            where=file,
            fix="name its CSV files: they have a column `prompt`",
        )
    # Across languages the files of a crosslingual source hold the same prompts in the same order.
    group = f"{source}/{number}" if setting == "crosslingual" else f"{source}/{lang}/{number}"
    language = _NAMES[lang]
    return Item(
        id=f"{setting}/{source}/{lang}/{number}",
        messages=({"role": "user", "content": row["prompt"]},),
        markers={LANG: language},
        labels={LANG: language},
        group=f"{setting}/{group}",
        data={"setting": setting, "source": source, "code": lang},
    )


def _spread(items: Sequence[Item], limit: int | None, seed: int) -> list[Item]:
    """`limit` items, as many of each file as can be."""
    if limit is None or limit >= len(items):
        return list(items)
    files: dict[tuple[str, ...], list[Item]] = defaultdict(list)
    for item in sorted(items, key=lambda item: sha256_json([seed, item.id])):
        files[tuple(item.id.split("/")[:-1])].append(item)
    order = sorted(files, key=lambda key: sha256_json([seed, *key]))
    turns = [(turn, place, item.id) for place, key in enumerate(order) for turn, item in enumerate(files[key])]
    chosen = {name for _, _, name in sorted(turns)[:limit]}
    return [item for item in items if item.id in chosen]
