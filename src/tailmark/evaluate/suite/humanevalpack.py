"""HumanEvalPack (Muennighoff et al. 2023, arXiv 2308.07124): functions written from a docstring, repaired, translated; pass@1."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence

from tailmark.config import CodeLanguage, CodeTask, HumanEvalPack
from tailmark.errors import DataError
from tailmark.evaluate.benchmarks import Bench
from tailmark.evaluate.sandbox import NAMESPACES, RLIMITS, Limits, Outcome, ready, run
from tailmark.evaluate.scores import Measure
from tailmark.evaluate.suite.base import Benchmark, Item, Messages, sample
from tailmark.evaluate.suite.data import Files
from tailmark.evaluate.suite.programs import LANGUAGES, Language, Problem, assemble, code_in, program, solution
from tailmark.generate.decode import Answer
from tailmark.layout import Layout

TASK_VALUES: Mapping[CodeTask, str] = {"synthesis": "CodeGeneration", "repair": "CodeFix", "translation": "CodeTranslation"}
_TITLES: Mapping[CodeTask, str] = {
    "synthesis": "Code written passes its tests",
    "repair": "Code repaired",
    "translation": "Code translated",
}
_FIELDS = ("task_id", "prompt", "declaration", "canonical_solution", "buggy_solution", "test", "entry_point", "instruction", "bug_type")
_OTHER_SOURCE: Mapping[CodeLanguage, CodeLanguage] = {"python": "java"}
"""What a language is translated from where it is itself the one that is translated from; for all others it is Python."""


class HumanEvalPackBenchmark(Benchmark):
    """Every answer's program is run with the problem's tests; the score `pass_<task>` is 1 where all passed.

    Greedy answers, one a problem: pass@1 as the share that passes.
    """

    name = "humanevalpack"

    def __init__(self, options: HumanEvalPack, bench: Bench, layout: Layout) -> None:
        self._options, self._seed = options, bench.config.seed
        self._data = Files(layout.root, options.path)
        self._isolation = NAMESPACES if options.sandbox == "namespaces" else RLIMITS
        self.files = self._data.digests
        self.not_run: dict[str, str] = {}
        self.parallel = options.workers or os.cpu_count() or 1
        self.measures = [Measure(self.name, f"pass_{task}", _TITLES[task], "share", higher_is_better=True) for task in options.tasks]

    def load(self) -> Sequence[Item]:
        """Problems times languages times tasks; `not_run` names the languages without tools and the problems without libraries."""
        problems = self._problems()
        if against := ready(self._isolation):
            self.not_run["all languages"] = f"{against}; docs/benchmarks.md says what the sandbox needs"
            return []
        languages = [LANGUAGES[name] for name in self._options.languages if self._has_tools(LANGUAGES[name])]
        chosen = self._chosen(problems)
        return [
            item
            for language in languages
            for number in self._runnable(language, problems, chosen)
            for task in self._options.tasks
            if (item := self._item(task, language, number, problems)) is not None
        ]

    def score(self, item: Item, answer: Answer) -> Mapping[str, float]:
        """1 or 0."""
        problem: Problem = item.data["problem"]
        code = assemble(problem, code_in(answer.text))
        passed = bool(answer.text.strip()) and self.passes(LANGUAGES[item.data["language"]], problem, code)
        return {f"pass_{item.data['task']}": float(passed)}

    def passes(self, language: Language, problem: Problem, code: str) -> bool:
        """Whether whole code passes the problem's tests, all of them."""
        return self.outcome(language, problem, code)[0]

    def outcome(self, language: Language, problem: Problem, code: str) -> tuple[bool, Outcome]:
        """The same, with how it ended."""
        made = program(language, problem, code, self._options.timeout_s)
        limits = Limits(memory_mib=self._options.memory_mib)
        found = run(
            made.files, made.steps, limits=limits, isolation=self._isolation, tools=language.folders, environment=language.environment
        )
        return found.passed(made.steps) and made.proof in found.stdout, found

    def _problems(self) -> dict[CodeLanguage, dict[int, Problem]]:
        """The problems by language and number.

        Raises:
            DataError: a row lacks a field, or is of no language that is known.
        """
        known = {language.prefix: name for name, language in LANGUAGES.items()}
        found: dict[CodeLanguage, dict[int, Problem]] = {}
        for row in self._data.jsonl():
            if missing := [name for name in _FIELDS if not isinstance(row.get(name), str)]:
                raise DataError(f"A problem lacks '{missing[0]}'.", where=self._options.path, fix="give the files of HumanEvalPack")
            prefix, _, number = row["task_id"].partition("/")
            if prefix not in known or not number.isdigit():
                raise DataError(f"'{row['task_id']}' is no problem of HumanEvalPack.", where=self._options.path, fix="give its own files")
            found.setdefault(known[prefix], {})[int(number)] = row
        return found

    def _has_tools(self, language: Language) -> bool:
        if language.missing:
            self.not_run[language.title] = f"`{language.missing}` is not installed"
        return not language.missing

    def _chosen(self, problems: Mapping[CodeLanguage, Mapping[int, Problem]]) -> list[int]:
        """The numbers of the problems; the same ones in every language."""
        numbers = sorted({number for of_language in problems.values() for number in of_language})
        items = sample([Item(str(number), ()) for number in numbers], self._options.limit, self._seed)
        return [int(item.id) for item in items]

    def _runnable(self, language: Language, problems: Mapping[CodeLanguage, Mapping[int, Problem]], chosen: Sequence[int]) -> Iterator[int]:
        """Those whose libraries are installed: where a problem asks for one, its own solution is tried."""
        without = []
        for number in chosen:
            problem = problems.get(language.name, {}).get(number)
            if problem is None:
                continue
            whole = solution(problem)
            if re.search(language.outside, whole + problem["test"]) and not self.passes(language, problem, whole):
                without.append(str(number))
            else:
                yield number
        if without:
            self.not_run[f"{language.title}, {len(without)} problems ({', '.join(without)})"] = "a library they use is not installed"

    def _item(self, task: CodeTask, language: Language, number: int, problems: Mapping[CodeLanguage, Mapping[int, Problem]]) -> Item | None:
        problem = problems[language.name][number]
        source = self._source(language.name)
        original = problems.get(source, {}).get(number)
        if task == "translation" and original is None:
            self.not_run[f"{language.title}, translation"] = f"there are no problems in {LANGUAGES[source].title}"
            return None
        markers = {"domain": "Code", "task": TASK_VALUES[task], "code_type": language.name}
        return Item(
            id=f"{task}/{language.name}/{number:03d}",
            messages=_asked(task, language, problem, LANGUAGES[source], original),
            reference=solution(problem),
            markers=markers,
            labels={**markers, "bug_type": problem["bug_type"]} if task == "repair" else markers,
            group=f"humaneval/{number}",
            data={"problem": problem, "language": language.name, "task": task},
        )

    def _source(self, language: CodeLanguage) -> CodeLanguage:
        chosen = self._options.translate_from
        return chosen if chosen != language else _OTHER_SOURCE.get(language, "python")


def _asked(task: CodeTask, language: Language, problem: Problem, source: Language, original: Problem | None) -> Messages:
    """The benchmark's own requests, in the form of a chat: the docstring; faulty code with its tests; code in another language."""
    declaration = str(problem["declaration"]).strip()
    if task == "synthesis":
        text = f"{problem['instruction'].strip()}\n\nBegin with:\n\n{declaration}"
    elif task == "repair":
        code = f"{problem['declaration'].strip()}\n{problem['buggy_solution'].rstrip()}\n\n{problem['test'].strip()}"
        text = f"Fix the bug in `{problem['entry_point']}`; the tests are right.\n\n{code}"
    else:
        assert original is not None
        code = f"{original['declaration'].strip()}\n{original['canonical_solution'].rstrip()}"
        text = f"Translate this {source.title} code to {language.title}.\n\n{code}\n\nBegin with:\n\n{declaration}"
    return ({"role": "user", "content": text},)
