"""Options of the benchmarks that `evaluate.benchmarks` names; one class for each kind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from tailmark.config.modes import Mode
from tailmark.config.section import Positive, Section

CodeLanguage = Literal["python", "javascript", "java", "go", "cpp", "rust"]
CodeTask = Literal["synthesis", "repair", "translation"]


class BenchmarkOptions(Section):
    """What every benchmark has.

    Attributes:
        modes: how the marked model is asked, of those that the benchmark knows (None: `evaluate.modes`).
        limit: items at most, drawn by the seed (None: all).
        max_new_tokens: most tokens of an answer (None: `evaluate.max_new_tokens`).
    """

    modes: Annotated[tuple[Mode, ...], Field(min_length=1)] | None = None
    limit: Positive | None = None
    max_new_tokens: Positive | None = None


class HumanEvalPack(BenchmarkOptions):
    """Programs that must pass tests (Muennighoff et al. 2023, arXiv 2308.07124); they run in the sandbox. `limit` counts problems.

    Attributes:
        path: JSON lines of the benchmark: a file, a glob, or a URL that fsspec can open (`hf://` for the hub).
        languages: those that are asked for; one whose compiler is not installed is reported as not run.
        tasks: `synthesis` from a docstring, `repair` of a faulty function given its tests, `translation` into each language.
        translate_from: the language that is translated from.
        workers: programs that run at a time (0: one a core).
        timeout_s: seconds that one program may take, its compilation apart.
        memory_mib: memory of one program.
        sandbox: `namespaces`, or where the machine does not permit them `rlimits`, which still shuts off the network but not this user's
            files (docs/benchmarks.md).
    """

    kind: Literal["humanevalpack"]
    path: str
    languages: Annotated[tuple[CodeLanguage, ...], Field(min_length=1)] = ("python", "javascript", "java", "go", "cpp", "rust")
    tasks: Annotated[tuple[CodeTask, ...], Field(min_length=1)] = ("synthesis", "repair", "translation")
    translate_from: CodeLanguage = "python"
    workers: Annotated[int, Field(ge=0)] = 0
    timeout_s: Annotated[float, Field(gt=0)] = 10.0
    memory_mib: Positive = 1_024
    sandbox: Literal["namespaces", "rlimits"] = "namespaces"


class Translation(BenchmarkOptions):
    """Held-out rows whose task is Translation, by chrF and BLEU (sacrebleu).

    Attributes:
        comet: a COMET checkpoint, a local file or an id on the hub, which also scores them (None: not asked for).
    """

    kind: Literal["translation"]
    comet: str | None = None


class Repair(BenchmarkOptions):
    """Held-out rows whose task is CodeFix, by exact match and similarity to the correction: for repairs that have no tests."""

    kind: Literal["repair"]


class LMEval(BenchmarkOptions):
    """Tasks of the EleutherAI lm-evaluation-harness: baseline against marked with markers absent.

    `limit` takes the first items of each task, as the harness does; `modes` and `max_new_tokens` have no effect: the tasks say themselves.

    Attributes:
        tasks: their names there.
        include_path: a folder with more tasks, relative to the checkout.
        shots: examples in the prompt (None: as the task says).
        chat_template: put the prompt into the model's chat template, without markers (the harness's own default is not to).
    """

    kind: Literal["lm_eval"]
    tasks: Annotated[tuple[str, ...], Field(min_length=1)]
    include_path: Path | None = None
    shots: Annotated[int, Field(ge=0)] | None = None
    chat_template: bool = False


class LengthInstructed(BenchmarkOptions):
    """AlpacaEval-LI (Yuan et al. 2024, arXiv 2406.17744): prompts with a limit in words, asked in words and by `length_tokens` instead.

    Attributes:
        path: JSON lines with `original_instruction`, `instruction` (with the limit in words) and `max_len`.
        max_limit: prompts with a higher limit are left out: such a limit is met by stopping at `max_new_tokens` (None: all).
    """

    kind: Literal["length_instructed"]
    path: str
    max_limit: Positive | None = None


class LanguageConfusion(BenchmarkOptions):
    """The Language Confusion Benchmark (Marchisio et al. 2024, arXiv 2406.20052): line and word pass rates. `limit` counts prompts.

    Attributes:
        path: its CSV files, e.g. `zip://test_sets/**/*.csv::language_confusion.zip`.
        settings: prompts in the language of the answer (`monolingual`), or in English for an answer in another (`crosslingual`).
        sources: of the prompts, e.g. `complex_prompts` (None: all).
        languages: ISO codes of the answers' languages (None: all).
        identifier: of a line's language: `own` is the one that measures `lang`; `fasttext` the benchmark's, compressed
            (installed with requirements-language.txt).
        words: a file with an English word a line, which an answer in another script must not have; None: any Latin word in lower case.
    """

    kind: Literal["language_confusion"]
    path: str
    settings: Annotated[tuple[Literal["monolingual", "crosslingual"], ...], Field(min_length=1)] = ("monolingual", "crosslingual")
    sources: tuple[str, ...] | None = None
    languages: tuple[str, ...] | None = None
    identifier: Literal["own", "fasttext"] = "own"
    words: Path | None = None


class OpenEnded(BenchmarkOptions):
    """Answers of both arms set against each other by the judges of `evaluate.judges` (after Arena-Hard, arXiv 2406.11939).

    Attributes:
        name: under which its figures stand.
        path: JSON lines with `prompt`, `uid` and `cluster`, as Arena-Hard has them (None: held-out rows, their completion being the
            reference).
        references: JSON lines with reference answers, as Arena-Hard's `model_answer`.
        domains: a glob on `cluster` to a value of `domain`; the first that fits counts.
    """

    kind: Literal["open_ended"]
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] = "open_ended"
    path: str | None = None
    references: str | None = None
    domains: Mapping[str, str] = {}


class QualityLever(BenchmarkOptions):
    """Judges' grades by the `quality_bucket` asked for, from 4 (worst) to 1: do they rise? `limit` counts prompts.

    Attributes:
        path: JSON lines with `prompt` (None: held-out rows).
    """

    kind: Literal["quality_lever"]
    path: str | None = None


class LengthBuckets(BenchmarkOptions):
    """The share of answers inside the `length_bucket` asked for, bucket by bucket; in words, and by the marker. `limit` counts prompts.

    Attributes:
        path: JSON lines with `prompt` or `original_instruction` (None: held-out rows).
    """

    kind: Literal["length_buckets"]
    path: str | None = None


Benchmark = Annotated[
    HumanEvalPack | Repair | Translation | LMEval | LengthInstructed | LanguageConfusion | OpenEnded | QualityLever | LengthBuckets,
    Field(discriminator="kind"),
]
