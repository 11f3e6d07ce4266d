"""Functions in C, C++, JavaScript, TypeScript and shell, with the comment above them where there is one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

from tailmark.ingest.starter.example import Example, Examples, ask, markers
from tailmark.ingest.starter.packages import installed_file, locate, sources
from tailmark.ingest.starter.text import clean_comment, first_sentence

_LINE_COMMENT = r"(?:^[ \t]*//[^\n]*\n)*"
_DOC_COMMENT = r"(?:^[ \t]*/\*\*?(?:[^*]|\*(?!/))*\*/[ \t]*\n)?"
_BLOCK = r"\{\n(?:[^\n]*\n)*?(?P=indent)\}"


def _pattern(comment: str, code: str) -> re.Pattern[str]:
    return re.compile(rf"(?P<comment>{comment})(?P<code>^(?P<indent>[ \t]*){code})", re.MULTILINE)


_C = _pattern(_LINE_COMMENT, r"static [^\n;{}]*\([^;{}]*\) *\{\n(?:[^}\n][^\n]*\n|\n)*?\}")
_CPP = _pattern(r"(?:^[ \t]*///[^\n]*\n)+", rf"[^\s/#][^\n]*\([^\n]*(?:;|\{{[^\n]*\}}|{_BLOCK})$")
_JS = _pattern(f"{_DOC_COMMENT}|{_LINE_COMMENT}", rf"(?:async )?function \w+\([^)\n]*\) {_BLOCK}")
_TS = _pattern(r"^[ \t]*/\*\*(?:[^*]|\*(?!/))*\*/\n", r"[^\s/*][^\n/*]*\([^\n]*\)[^\n]*;")
_SHELL = _pattern(r"(?:^[ \t]*#[^\n]*\n)*", rf"function \w+ *(?:\(\) *)?{_BLOCK}")

_NAME = re.compile(r"(\w+)\s*(?:<[^(]*>)?\(|function (\w+)")
_NOISE = re.compile(r"\{\{|\b\w+_1\b|exports\.|PYBIND11_DEPRECATED|\bFIXME\b|\bTODO\b|\bXXX\b|/{4}|\$modulestate|:help:")
_MIN_COMMENT, _MAX_CODE = 25, 1_800


@dataclass(frozen=True)
class Snippet:
    """A function. `comment`: what stands above it, as plain text, may be empty."""

    package: str
    file: str
    name: str
    comment: str
    code: str


def _snippets(package: str, paths: list[Path], pattern: re.Pattern[str]) -> Iterator[Snippet]:
    for path in paths:
        text = path.read_text(encoding="utf-8", errors="strict").replace("\r\n", "\n")
        for match in pattern.finditer(text):
            code, comment = dedent(match["code"]).strip("\n"), clean_comment(match["comment"])
            named = _NAME.search(code)
            name = (named[1] or named[2]) if named else ""
            if len(name) > 3 and len(code) <= _MAX_CODE and not _NOISE.search(code + comment):
                yield Snippet(package, path.stem, name, comment, code)


def examples() -> Examples:
    """Code from a description or from its head, and the description of code."""
    bokeh = locate("bokeh") / "server" / "static"
    jquery = locate("django") / "contrib" / "admin" / "static" / "admin" / "js" / "vendor" / "jquery" / "jquery.js"
    headers = [("pybind11", "include/**/*.h"), ("nanobind", "include/**/*.h")]
    families: list[tuple[str, Iterator[Snippet]]] = [
        ("c", _snippets("cython", sources("cython", "Utility/*.c"), _C)),
        *(("cpp", _snippets(package, sources(package, pattern), _CPP)) for package, pattern in headers),
        ("javascript", _snippets("bokeh", [bokeh / "js" / "bokeh.js", bokeh / "js" / "bokeh-widgets.js"], _JS)),
        ("javascript", _snippets("django", [jquery, *sources("django", "contrib/*/static/*/js/*.js")], _JS)),
        ("typescript", _snippets("bokeh", sorted((bokeh / "lib").glob("lib.es*.d.ts")), _TS)),
        ("shell", _snippets("virtualenvwrapper", [installed_file("virtualenvwrapper", "/virtualenvwrapper.sh")], _SHELL)),
    ]
    for code_type, snippets in families:
        for snippet in snippets:
            yield from _rows(code_type, snippet)


def _rows(code_type: str, snippet: Snippet) -> Examples:
    code, comment = snippet.code, snippet.comment
    generate = markers("Code", "CodeGeneration", code_type=code_type)
    explain = markers("Code", "CodeExplanation", code_type=code_type)
    if len(comment) >= _MIN_COMMENT:
        group = f"{snippet.package}/{comment}"
        told = f"{comment} (`{snippet.name}`)"
        yield Example(snippet.package, f"{code_type}.write", group, ask("code.write", group, {"text": told}), code, generate)
        prompt = ask("code.explain", group, {"code": code})
        for answer in dict.fromkeys((first_sentence(comment), comment)):
            yield Example(snippet.package, f"{code_type}.explain", group, prompt, answer, explain)
    elif "\n" in code:
        head, _, body = code.partition("{\n")
        group = f"{snippet.package}/{code}"
        if body.count("\n") > 1:
            prompt = ask("code.signature", group, {"code": f"{head.rstrip()} {{"})
            yield Example(snippet.package, f"{code_type}.complete", group, prompt, body, generate)
