"""Asking a language model behind an OpenAI-compatible endpoint: within a budget, many at a time, no valid answer paid for twice."""

from tailmark.llm.cache import AnswerCache
from tailmark.llm.client import Client
from tailmark.llm.endpoint import Reply, Tokens, Unanswered, read_key
from tailmark.llm.query import Query, cut, query_key
from tailmark.llm.usage import Budget, Usage, estimated_tokens

__all__ = [
    "AnswerCache",
    "Budget",
    "Client",
    "Query",
    "Reply",
    "Tokens",
    "Unanswered",
    "Usage",
    "cut",
    "estimated_tokens",
    "query_key",
    "read_key",
]
