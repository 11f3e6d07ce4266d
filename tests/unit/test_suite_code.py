"""The code benchmark: right programs pass, faulty ones and those that only pretend fail, in every language that is installed."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tailmark.config import Config, HumanEvalPack
from tailmark.errors import DataError
from tailmark.evaluate.sandbox import NAMESPACES, ready
from tailmark.evaluate.suite import programs
from tailmark.evaluate.suite.humanevalpack import HumanEvalPackBenchmark
from tailmark.evaluate.suite.programs import LANGUAGES, assemble, code_in, solution
from tailmark.generate.request import Answer
from tailmark.layout import Layout

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "eval"
needs_sandbox = pytest.mark.skipif(bool(ready(NAMESPACES)), reason=ready(NAMESPACES) or "")

JAVA_HEAD = "import java.util.*;\n\nclass Solution {\n    public int twice(int n) {"
RUST_HEAD = "use rand::Rng;\nuse std::cmp::max;\n\nfn twice(n: i32) -> i32 {"
RUST_TEST = "#[cfg(test)]\nmod tests {\n    use super::*;\n    #[test]\n    fn test_twice() { assert_eq!(twice(4), 8); }\n}"
GO_TEST = "func TestTwice(t *testing.T) {\n    assert := assert.New(t)\n    assert.Equal(8, Twice(4))\n}"
JAVA_TEST = "public class Main { public static void main(String[] args) { if (new Solution().twice(4) != 8) throw new AssertionError(); } }"
WRITTEN: dict[str, tuple[str, str, str, str]] = {
    "python": ("def twice(n: int) -> int:", "    return n * {}\n", "def check(f):\n    assert f(4) == 8\n\ncheck(twice)", "    exit()"),
    "javascript": ("const twice = (n) => {", "  return n * {};\n}\n", "console.assert(twice(4) === 8)", "  process.exit(0); }"),
    "java": (JAVA_HEAD, "        return n * {};\n    }}\n}}\n", JAVA_TEST, "        System.exit(0); return 0;\n    }\n}\n"),
    "go": ("func Twice(n int) int {", "    return n * {}\n}}\n", GO_TEST, "    os.Exit(0); return 0\n}\n"),
    "cpp": (
        "#include<stdio.h>\n#include<stdlib.h>\nint twice(int n){",
        "    return n * {};\n}}\n",
        "#undef NDEBUG\n#include<assert.h>\nint main(){\n    assert (twice(4) == 8);\n}",
        "    exit(0);\n}\n",
    ),
    "rust": (RUST_HEAD, "    return n * {};\n}}\n", RUST_TEST, "    std::process::exit(0);\n}\n"),
}
"""Language to the head of a function, its body with a place for the factor, its tests, and a body that only pretends."""


def problem(language: str, number: int = 0) -> dict[str, Any]:
    head, body, test, _ = WRITTEN[language]
    right, wrong = (body.replace("{}", factor).replace("}}", "}") for factor in ("2", "3"))
    return {
        "task_id": f"{LANGUAGES[language].prefix}/{number}",  # type: ignore[index]
        "prompt": f"{head}\n",
        "declaration": f"{head}\n",
        "canonical_solution": right,
        "buggy_solution": wrong,
        "test": test,
        "entry_point": "Twice" if language == "go" else "twice",
        "instruction": "Write twice.",
        "bug_type": "value misuse",
    }


def benchmark(folder: Path, rows: list[dict[str, Any]], **options: Any) -> HumanEvalPackBenchmark:
    (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    chosen = HumanEvalPack(kind="humanevalpack", path="problems.jsonl", timeout_s=20, **options)
    return HumanEvalPackBenchmark(chosen, SimpleNamespace(config=Config()), Layout(folder))  # type: ignore[arg-type]


def answer(text: str) -> Answer:
    return Answer(text, {}, text, 1, False, True, True)


@needs_sandbox
@pytest.mark.parametrize("name", WRITTEN)
def test_right_passes_and_wrong_and_pretending_fail(name: str, tmp_path: Path) -> None:
    language, row = LANGUAGES[name], problem(name)  # type: ignore[index]
    if language.missing:
        pytest.skip(f"`{language.missing}` is not installed")
    run = benchmark(tmp_path, [row])
    passed, outcome = run.outcome(language, row, solution(row))
    assert passed, outcome
    assert not run.passes(language, row, solution(row, "buggy_solution"))
    assert not run.passes(language, row, f"{WRITTEN[name][0]}\n{WRITTEN[name][3]}")


@pytest.mark.parametrize("name", WRITTEN)
def test_an_answer_may_be_the_function_or_only_its_body(name: str) -> None:
    row = problem(name)
    whole = solution(row)
    function = whole if name == "java" else whole[whole.index(row["declaration"].strip().splitlines()[-1]) :]
    for text in (row["canonical_solution"], function):
        built = assemble(row, text)
        assert built.count(row["declaration"].strip().splitlines()[-1]) == 1
        assert built.split() == whole.split()


def test_a_call_is_no_definition() -> None:
    assert assemble(problem("python"), "    return twice(n)\n").startswith("def twice")


def test_code_is_the_first_fenced_block_or_everything() -> None:
    assert code_in("Here it is:\n```python\nx = 1\n```\nand\n```\ny\n```") == "x = 1\n"
    assert code_in("```js\nx\n") == "x\n"
    assert code_in("    return 1") == "    return 1"


@needs_sandbox
def test_items_are_the_same_problems_in_every_task(tmp_path: Path) -> None:
    rows = [problem(name, number) for name in ("python", "java") for number in range(6)]
    run = benchmark(tmp_path, rows, languages=("python",), limit=3)
    items = run.load()
    assert [item.id.rpartition("/")[0] for item in items] == ["synthesis/python", "repair/python", "translation/python"] * 3
    assert len({item.group for item in items}) == 3
    repair = next(item for item in items if item.data["task"] == "repair")
    assert repair.markers == {"domain": "Code", "task": "CodeFix", "code_type": "python"}
    assert "n * 3" in repair.messages[0]["content"]
    translation = next(item for item in items if item.data["task"] == "translation")
    assert "Translate this Java code to Python" in translation.messages[0]["content"]
    assert run.score(repair, answer("```python\ndef twice(n):\n    return n + n\n```")) == {"pass_repair": 1.0}
    assert run.score(repair, answer("def twice(n):\n    return n")) == run.score(repair, answer("")) == {"pass_repair": 0.0}
    assert run.files["problems.jsonl"]["bytes"] == (tmp_path / "problems.jsonl").stat().st_size
    assert not run.not_run


@needs_sandbox
def test_what_is_not_installed_is_not_run_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = problem("javascript", 1) | {"canonical_solution": "  return require('no-such-library')(n);\n}\n"}
    monkeypatch.setattr(programs, "tool", lambda name: None if name in ("go", "node") else Path("/usr/bin/true"))
    run = benchmark(tmp_path, [problem("go"), problem("javascript"), odd], languages=("go", "javascript"), tasks=("repair",))
    assert run.load() == []
    assert run.not_run == {"Go": "`go` is not installed", "JavaScript": "`node` is not installed"}
    monkeypatch.undo()
    if not LANGUAGES["javascript"].missing:
        run = benchmark(tmp_path, [problem("javascript"), odd], languages=("javascript",), tasks=("repair",))
        assert [item.id for item in run.load()] == ["repair/javascript/000"]
        assert run.not_run == {"JavaScript, 1 problems (1)": "a library they use is not installed"}


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="lacks 'test'"):
        benchmark(tmp_path, [problem("python") | {"test": None}]).load()
    with pytest.raises(DataError, match="is no problem of HumanEvalPack"):
        benchmark(tmp_path, [problem("python") | {"task_id": "Cobol/1"}]).load()


@pytest.mark.slow
@needs_sandbox
@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data (../shared/data) is not here")
@pytest.mark.parametrize("name", WRITTEN)
def test_every_canonical_solution_passes_and_every_buggy_one_fails(name: str, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    language = LANGUAGES[name]  # type: ignore[index]
    if language.missing:
        pytest.skip(f"`{language.missing}` is not installed")
    file = SHARED / f"humanevalpack_{'js' if name == 'javascript' else name}.jsonl.gz"
    options = HumanEvalPack(kind="humanevalpack", path=str(file), languages=(name,), tasks=("repair",), timeout_s=60)
    run = HumanEvalPackBenchmark(options, SimpleNamespace(config=Config()), Layout(tmp_path))  # type: ignore[arg-type]
    rows = [item.data["problem"] for item in run.load()]
    assert len(rows) >= 158, run.not_run
    with ThreadPoolExecutor(run.parallel) as pool:
        right = list(pool.map(lambda row: run.passes(language, row, solution(row)), rows))
        wrong = list(pool.map(lambda row: run.passes(language, row, solution(row, "buggy_solution")), rows))
    assert [row["task_id"] for row, passed in zip(rows, right, strict=True) if not passed] == []
    assert [row["task_id"] for row, passed in zip(rows, wrong, strict=True) if passed] == []
