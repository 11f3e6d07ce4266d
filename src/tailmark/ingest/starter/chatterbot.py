"""Conversations in many languages from chatterbot-corpus."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tailmark.errors import DataError
from tailmark.ingest.starter.example import Example, Examples, markers
from tailmark.ingest.starter.packages import INSTALL, sources
from tailmark.ingest.starter.text import unwrap

PACKAGE = "chatterbot-corpus"

LANGUAGES = {
    "chinese": "Chinese",
    "dutch": "Dutch",
    "english": "English",
    "french": "French",
    "german": "German",
    "hebrew": "Hebrew",
    "hindi": "Hindi",
    "indonesian": "Indonesian",
    "italian": "Italian",
    "japanese": "Japanese",
    "korean": "Korean",
    "persian": "Persian",
    "portuguese": "Portuguese",
    "russian": "Russian",
    "spanish": "Spanish",
    "traditionalchinese": "Chinese",
    "turkish": "Turkish",
    "ukrainian": "Ukrainian",
}

_DOMAINS = {
    "Conversation": "botprofile compliment conversations coversations emociones emotion emotions"
    " gossip greeting greetings humor perfilbot profile suggestions",
    "Culture": "food games literature movies music proverbs sport sports traveling trivia linguistic_knowledge",
    "Technology": "ai ia computer computers coding tech_support",
    "SocialSciences": "history history_brasil psychology psicologia",
    "Sciences": "science",
    "Finance": "money dinero",
    "Medical": "health",
}
DOMAINS = {topic: domain for domain, topics in _DOMAINS.items() for topic in topics.split()}

_CHAT = ("Conversation",)
_DIALOGUES = {"conversations", "coversations", "greetings", "greeting", "health", "tech_support"}
"""Topics whose longer entries are turns of a dialogue; elsewhere they are other answers to the same question."""

_FENCE = "```"
_CODE_TYPE = re.compile(r"\b(Python|JavaScript|TypeScript)\b")

_QUESTION_MARKS = ("?", "？", "؟")


def examples() -> Examples:
    """Every exchange in a language of the taxonomy."""
    for path in sources(PACKAGE, "data/*/*.yml"):
        lang, topic = LANGUAGES.get(path.parent.name), path.stem.lower()
        if lang is None or topic not in DOMAINS:
            continue
        for turns in _conversations(path):
            yield from _dialogue(lang, topic, turns) if topic in _DIALOGUES else _answers(lang, topic, turns)


def _conversations(path: Path) -> Iterator[list[str]]:
    try:
        content: dict[str, Any] = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"A file of {PACKAGE} cannot be read: {error}", where=str(path), fix=INSTALL) from None
    for entry in content["conversations"]:
        turns = [_turn(str(turn)) for turn in entry if turn is not None]
        if len(turns) > 1 and all(turns):
            yield turns


def _turn(text: str) -> str:
    return text.strip() if _FENCE in text else unwrap(text).strip("'\"")


def _markers(lang: str, topic: str, question: str, answer: str) -> dict[str, str]:
    if _FENCE in answer:
        named = _CODE_TYPE.search(f"{question} {answer}")
        return markers("Code", "CodeGeneration", lang=lang, code_type=named[1].lower() if named else None, format="Markdown")
    asks = question.endswith(_QUESTION_MARKS) and DOMAINS[topic] not in _CHAT
    task = "CreativeWriting" if topic == "humor" else "QuestionAnswering" if asks else "OpenEnded"
    return markers(DOMAINS[topic], task, lang=lang, style="Informal")


def _answers(lang: str, topic: str, turns: list[str]) -> Examples:
    question = turns[0]
    group = f"chatterbot/{question.casefold()}"
    for answer in turns[1:]:
        yield Example(PACKAGE, f"chatterbot.{topic}", group, question, answer, _markers(lang, topic, question, answer))


def _dialogue(lang: str, topic: str, turns: list[str]) -> Examples:
    for last in range(1, len(turns), 2):
        history = tuple((("user", "assistant")[index % 2], turn) for index, turn in enumerate(turns[: last - 1]))
        group = f"chatterbot/{turns[0].casefold()}"
        chat = _markers(lang, topic, turns[last - 1], turns[last])
        yield Example(PACKAGE, f"chatterbot.{topic}", group, turns[last - 1], turns[last], chat, history)
