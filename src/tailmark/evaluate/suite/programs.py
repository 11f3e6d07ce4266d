"""Programs of HumanEvalPack in six languages: put together from an answer and the tests, and the commands that run them."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tailmark.config import CodeLanguage
from tailmark.evaluate.sandbox import Step, python

Problem = Mapping[str, Any]
COMPILE_S = 60.0

_FENCE = re.compile(r"```[^\n`]*\n(.*?)(?:```|\Z)", re.DOTALL)
_DEFINES = re.compile(
    r"(?:\b(?:def|fn|func|function|const|let|var)\s+|(?:\b(?!(?:return|else|new|in|and|or|not)\b)\w+|[>\]])[ \t]+[&*]*)NAME\b\s*[=(<]"
)
"""Where a function is defined, in any of the languages: a keyword, or its return type, stands before its name."""

_GO_PACKAGES = ("bytes", "crypto/md5", "errors", "fmt", "math", "math/rand", "regexp", "sort", "strconv", "strings", "time", "unicode")
_GO_IMPORT = re.compile(r"^\s*(?:package \w+|import \((?:.|\n)*?\)|import .*)$", re.MULTILINE)
_GO_ASSERT = """package assert

import (
	"bytes"
	"reflect"
	"testing"
)

type Assertions struct{ t *testing.T }

func New(t *testing.T) *Assertions { return &Assertions{t} }

func (a *Assertions) Equal(expected, actual interface{}, rest ...interface{}) bool {
	a.t.Helper()
	one, isBytes := expected.([]byte)
	other, areBytes := actual.([]byte)
	equal := reflect.DeepEqual(expected, actual) || isBytes && areBytes && bytes.Equal(one, other)
	if !equal {
		a.t.Errorf("expected %v, not %v", expected, actual)
	}
	return equal
}
"""
"""The one assertion that the Go tests use (github.com/stretchr/testify/assert), so that nothing need be fetched."""


@dataclass(frozen=True)
class Program:
    """Files, the steps that build and run them, and the text that only a program whose tests all ran writes to its output."""

    files: Mapping[str, str]
    steps: tuple[Step, ...]
    proof: str


@dataclass(frozen=True)
class Language:
    """How programs of a language are written and run.

    Attributes:
        name: as in the marker `code_type`; `title`: as people call it; `prefix`: of the benchmark's task ids.
        needs: the commands that must be installed.
        outside: what in a program asks for a library that is not the language's own.
        write: whole code, tests, a text nobody can guess and the seconds allowed, to a program.
        environment: variables it needs.
    """

    name: CodeLanguage
    title: str
    prefix: str
    needs: tuple[str, ...]
    outside: str
    write: Callable[[str, str, str, float], Program]
    environment: Mapping[str, str]

    @property
    def missing(self) -> str:
        """The first command it needs that is not installed; empty if all are."""
        return next((name for name in self.needs if tool(name) is None), "")

    @property
    def folders(self) -> list[Path]:
        """Where its tools lie, for the sandbox to show."""
        found = [tool(name) for name in self.needs]
        return [path.parent.parent for path in found if path is not None]


@cache
def tool(name: str) -> Path | None:
    """A command, links followed as far as the folder that it and its libraries lie in."""
    if name == "rustc" and (rustup := shutil.which("rustc")):
        told = subprocess.run([rustup, "--print", "sysroot"], capture_output=True, text=True, timeout=60, check=False)
        path = Path(told.stdout.strip()) / "bin" / "rustc"
        return path if told.returncode == 0 and path.exists() else None
    found = shutil.which(name)
    return Path(os.path.realpath(found)) if found else None


def code_in(answer: str) -> str:
    """The first fenced block of an answer, or all of it."""
    fenced = _FENCE.search(answer)
    return fenced[1] if fenced else answer


def signature(problem: Problem) -> str:
    """The line that opens the function: the last one with its name, which a few problems spell otherwise, else the last one."""
    lines = [line for line in problem["declaration"].splitlines() if line.strip()]
    return str(next((line for line in reversed(lines) if re.search(rf"\b{problem['entry_point']}\b", line)), lines[-1]))


def assemble(problem: Problem, code: str) -> str:
    """The whole program of an answer: with what stands before the function, and with its first line where the answer is only its body."""
    before, _, _ = problem["prompt"].rpartition(signature(problem))
    if not _DEFINES.search(code.replace(_name(problem), "NAME")):
        return f"{before}{_opening(problem)}\n{code}"
    if "class Solution" in code:
        imports = [line for line in before.splitlines() if line.startswith("import") and line not in code]
        return "\n".join([*imports, code])
    closing = "\n}" if "class Solution" in before else ""
    return f"{before}{code}{closing}"


def _opening(problem: Problem) -> str:
    """The function's first line, with what it imports inside (Python 115)."""
    line = signature(problem)
    _, _, after = problem["declaration"].partition(line)
    return "\n".join([line, *(inner for inner in after.splitlines() if inner.strip().startswith("import "))])


def _name(problem: Problem) -> str:
    line = signature(problem)
    found = re.search(r"(\w+)\s*(?:=\s*)?\(", line)
    return str(problem["entry_point"]) if problem["entry_point"] in line or not found else found[1]


def solution(problem: Problem, field: str = "canonical_solution") -> str:
    """The whole program of one of the problem's own solutions."""
    before, _, _ = problem["prompt"].rpartition(signature(problem))
    return f"{before}{_opening(problem)}\n{problem[field]}"


def program(language: Language, problem: Problem, code: str, timeout_s: float) -> Program:
    """A program that tests whole code."""
    secret = hashlib.sha256(f"{code}\0{problem['test']}".encode()).hexdigest()[:24]
    return language.write(code, problem["test"], secret, timeout_s)


def _python(code: str, test: str, secret: str, timeout_s: float) -> Program:
    text = f'{code}\n{test}\nprint("{secret}")\n'
    return Program({"main.py": text}, (Step((python(), "-I", "-S", "main.py"), timeout_s),), secret)


def _javascript(code: str, test: str, secret: str, timeout_s: float) -> Program:
    # In node a failed console.assert is only printed.
    text = f'console.assert = require("node:assert").ok;\n{code}\n{test}\nconsole.log("{secret}");\n'
    return Program({"main.js": text}, (Step(("node", "--max-old-space-size=512", "main.js"), timeout_s),), secret)


def _java(code: str, test: str, secret: str, timeout_s: float) -> Program:
    proof = f'class Proof {{ public static void main(String[] a) throws Exception {{ Main.main(a); System.out.println("{secret}"); }} }}'
    build = Step(("javac", "-J-Xmx512m", "-J-XX:+UseSerialGC", "-nowarn", "-d", ".", "Main.java"), COMPILE_S)
    run = Step(("java", "-Xmx512m", "-Xss16m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", ".", "Proof"), timeout_s)
    return Program({"Main.java": f"{code}\n{test}\n{proof}\n"}, (build, run), secret)


def _go(code: str, test: str, secret: str, timeout_s: float) -> Program:
    # Go refuses an import that is not used, so those of the answer give way to those that the program uses.
    body = f"{_GO_IMPORT.sub('', code)}\n{_GO_IMPORT.sub('', test)}"
    used = [name for name in _GO_PACKAGES if re.search(rf"\b{name.rpartition('/')[2]}\.[A-Z]", body)]
    imports = "".join(f'\t"{name}"\n' for name in (*used, "testing", "github.com/stretchr/testify/assert"))
    proof = f'func TestZZZ(t *testing.T) {{ println("{secret}") }}'
    files = {
        "src/program/main_test.go": f"package program\n\nimport (\n{imports})\n{body}\n{proof}\n",
        "src/github.com/stretchr/testify/assert/assert.go": _GO_ASSERT,
    }
    build = Step(("go", "test", "-vet=off", "-c", "-o", "program", "program"), COMPILE_S)
    return Program(files, (build, Step(("./program",), timeout_s)), "PASS")


def _cpp(code: str, test: str, secret: str, timeout_s: float) -> Program:
    before, _, after = test.rpartition("}")
    text = f'{code}\n{before}\nputs("{secret}");\n}}{after}\n'
    libraries = ("-lcrypto",) if "openssl/" in text else ()
    build = Step(("g++", "-std=c++17", "-O1", "-w", "main.cpp", "-o", "main", *libraries), COMPILE_S)
    return Program({"main.cpp": text}, (build, Step(("./main",), timeout_s)), secret)


def _rust(code: str, test: str, secret: str, timeout_s: float) -> Program:
    del secret  # its test harness says itself what ran
    text = "\n".join(
        line for line in f"{code}\n{test}".splitlines() if line.strip() not in ("use rand::Rng;", "use regex::Regex;", "use md5;")
    )
    build = Step(("rustc", "--edition", "2021", "--test", "-Awarnings", "-o", "main", "main.rs"), COMPILE_S)
    return Program({"main.rs": text}, (build, Step(("./main", "--test-threads", "1"), timeout_s)), "test result: ok. 1 passed")


LANGUAGES: Mapping[CodeLanguage, Language] = {
    language.name: language
    for language in (
        Language("python", "Python", "Python", (), r"(?!)", _python, {}),
        Language("javascript", "JavaScript", "JavaScript", ("node",), r"require\((?!\"node:)", _javascript, {}),
        Language("java", "Java", "Java", ("javac", "java"), r"(?!)", _java, {}),
        Language("go", "Go", "Go", ("go",), r"(?!)", _go, {"GO111MODULE": "off", "GOPATH": "/box", "GOCACHE": "/box/cache", "GOFLAGS": ""}),
        Language("cpp", "C++", "CPP", ("g++",), r"#include\s*<(?:boost|openssl)/", _cpp, {}),
        Language("rust", "Rust", "Rust", ("rustc", "cc"), r"\b(?:rand::(?!Rng;)|Regex(?!;)|md5::)|thread_rng", _rust, {}),
    )
}
"""Every language of the benchmark, by name."""
