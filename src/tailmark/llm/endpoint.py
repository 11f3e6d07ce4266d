"""An OpenAI-compatible endpoint: tries again with backoff, goes without what the endpoint cannot do, never shows the key."""

from __future__ import annotations

import asyncio
import email.utils
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import openai
from openai.types.chat import ChatCompletion

from tailmark import config
from tailmark.console import duration, say
from tailmark.errors import EndpointError
from tailmark.llm.query import Query
from tailmark.llm.usage import Budget, Usage, estimated_tokens

Tokens = Sequence[tuple[str, float]]
"""The answer's tokens as text, each with its log-probability."""

_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0
_LONGEST_ASKED_WAIT_S, _FOREVER_S = 600.0, 1e8
_OPTIONAL = {
    "response_format": ("response_format", "json_schema"),
    "logprobs": ("logprobs",),
    "temperature": ("temperature",),
    "max_tokens": ("max_tokens",),
}
"""What a request can go without, and the words by which an endpoint says that it does not take it."""
_RETRIED = (408, 409, 425, 429)
_ROW_REFUSED = (400, 413, 422)


@dataclass(frozen=True)
class Reply:
    """What came back: the text, its tokens where the endpoint gives them, what it took, and whether it ended within the limit.

    Attributes:
        reasoning: what the endpoint took off the text's head (None: nothing); for our models that is the marker list.
    """

    content: str
    tokens: Tokens | None
    usage: Usage
    finished: bool = True
    reasoning: str | None = None


class Unanswered(Exception):
    """A request got no answer. `refused`: the endpoint will not answer this one, others it may; else it could not be reached."""

    def __init__(self, reason: str, *, refused: bool) -> None:
        super().__init__(reason)
        self.refused = refused


class _Again(Exception):
    """A try that failed and may go well next time; `wait`: seconds the endpoint asks for."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def read_key(options: config.Endpoint, place: str) -> str | None:
    """The key in the environment variable that `key_variable` of the options in `place` names; None where it names none.

    Raises:
        EndpointError: the variable is not set.
    """
    if options.key_variable is None:
        return None
    key = os.environ.get(options.key_variable, "").strip()
    if not key:
        raise EndpointError(
            f"The environment variable {options.key_variable}, which should hold the endpoint's key, is not set.",
            where=f"params.yaml: {place}.key_variable",
            fix=f"export {options.key_variable}=..., or name another variable (null: the endpoint needs no key)",
        )
    return key


class _Adapted(Exception):
    """The request was refused for an option that it can go without from now on."""


class Endpoint:
    """Asks queries; an async context manager, which can be entered again for another event loop.

    Args:
        place: the option that `options` stand in, e.g. `annotate.llm`: errors name it.
        failed: called with what a request took that brought nothing; a reply says itself what it took.
    """

    def __init__(self, options: config.Endpoint, place: str, budget: Budget, failed: Callable[[Usage], None]) -> None:
        self._options, self._place, self._budget, self._failed = options, place, budget, failed
        self._key: str | None = None
        self._without: set[str] = set()
        self._not_before = 0.0

    async def __aenter__(self) -> Endpoint:
        self._key = read_key(self._options, self._place)
        # Given explicitly, so that a key of the environment never goes to an endpoint it was not meant for.
        self._client = openai.AsyncOpenAI(
            api_key=self._key or "none", base_url=self._options.base_url, timeout=self._options.timeout_s, max_retries=0
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._client.close()

    async def ask(self, query: Query, stopped: Callable[[], bool]) -> Reply:
        """The endpoint's answer. `stopped`: whether to give up instead of trying again.

        Raises:
            Unanswered: no answer after all tries.
            BudgetExceeded: the budget does not allow for the request.
            EndpointError: no request can be answered: the key or the address is wrong, or the account is used up.
        """
        failed = 0
        while True:
            try:
                return await self._once(query)
            except _Again as problem:
                failed += 1
                if failed > self._options.retries or stopped():
                    raise Unanswered(str(problem), refused=False) from None
                await self._wait(failed, problem)
            except _Adapted:
                continue
            if stopped():
                raise Unanswered("stopped", refused=False)

    async def _wait(self, failed: int, problem: _Again) -> None:
        """Exponential backoff with jitter; a time that the endpoint asks for holds for every request."""
        if problem.wait is None:
            await asyncio.sleep(min(_FIRST_WAIT_S * 2 ** (failed - 1), _LONGEST_WAIT_S) * random.uniform(0.5, 1))
            return
        if problem.wait > _LONGEST_ASKED_WAIT_S:
            raise EndpointError(
                f"The endpoint asks to wait for {duration(problem.wait)}: {problem}",
                where=self._options.base_url,
                fix="run the same command again then; every answer so far is kept",
            )
        self._not_before = max(self._not_before, time.monotonic() + problem.wait)

    async def _once(self, query: Query) -> Reply:
        while (rest := self._not_before - time.monotonic()) > 0:
            await asyncio.sleep(rest)
        self._budget.reserve(query.most)
        usage, request = Usage(requests=1), self._request(query)
        try:
            response = await self._client.chat.completions.create(**request)
            reply = _reply(response, query)
            usage = reply.usage
        except (openai.APIError, ValueError) as error:
            self._failed(usage)
            raise self._sorted(error, request) from None
        finally:
            self._budget.settle(query.most, usage)
        return reply

    def _request(self, query: Query) -> dict[str, Any]:
        request: dict[str, Any] = {
            "model": self._options.model,
            "messages": list(query.messages),
            "temperature": self._options.temperature,
            "max_tokens": query.max_tokens,
            **query.more,
        }
        if query.schema is not None:
            request["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": query.schema},
            }
        if self._options.logprobs:
            request["logprobs"] = True
        if "max_tokens" in self._without:
            request["max_completion_tokens"] = request["max_tokens"]
        return {name: value for name, value in request.items() if name not in self._without}

    def _sorted(self, error: Exception, request: Mapping[str, Any]) -> Exception:
        """What an error means: try again, go without an option, pass this request over, or stop."""
        if isinstance(error, openai.APITimeoutError):
            return _Again(f"no answer within {self._options.timeout_s:g} s")
        reason = self._shown(error)
        if not isinstance(error, openai.APIStatusError):
            return _Again(reason)
        status = error.status_code
        if status in _ROW_REFUSED:
            name = _blamed(error.param or str(error), request)
            return self._go_without(name) if name else Unanswered(f"refused with status {status}: {reason}", refused=True)
        if (status in _RETRIED or status >= 500) and error.code != "insufficient_quota":
            return _Again(f"status {status}: {reason}", _asked_wait(error))
        return self._fatal(status, reason)

    def _go_without(self, name: str) -> _Adapted:
        if name in self._without:  # another request that was under way found out first
            return _Adapted(name)
        self._without.add(name)
        instead = {"response_format": "asking for JSON in words", "max_tokens": "sending max_completion_tokens"}
        say(f"  the endpoint does not take `{name}`: {instead.get(name, 'going without it')}")
        return _Adapted(name)

    def _fatal(self, status: int, reason: str) -> EndpointError:
        fixes = {
            401: f"check the key in {self._options.key_variable or f'the variable that `{self._place}.key_variable` should name'}",
            403: "check what the key may do",
            404: f"check `{self._place}.base_url` (it often ends in /v1) and `{self._place}.model`",
            429: "top the account up, then run the same command again; every answer so far is kept",
        }
        return EndpointError(
            f"The endpoint refuses to answer, with status {status}: {reason}",
            where=self._options.base_url,
            fix=fixes.get(status, f"check the options under `{self._place}`"),
        )

    def _shown(self, error: Exception) -> str:
        """An error's first line, without the key: some endpoints send back what they were sent."""
        text = " ".join((str(error) or type(error).__name__).split())
        if self._key:
            text = text.replace(self._key, "***")
        return text[:300]


def _blamed(message: str, request: Mapping[str, Any]) -> str | None:
    """The optional part of a request that an error message names."""
    return next((name for name, words in _OPTIONAL.items() if name in request and any(word in message for word in words)), None)


def _asked_wait(error: openai.APIStatusError) -> float | None:
    """Seconds of the header Retry-After, which holds a number or a date."""
    text = error.response.headers.get("retry-after")
    if text is None:
        return None
    try:
        return min(max(0.0, float(text)), _FOREVER_S)
    except ValueError:
        pass
    parsed = email.utils.parsedate_tz(text)
    return max(email.utils.mktime_tz(parsed) - time.time(), 0.0) if parsed else None


def _reply(response: object, query: Query) -> Reply:
    """The parts of a response that count.

    Raises:
        ValueError: it is not what the API promises.
    """
    if not isinstance(response, ChatCompletion) or not response.choices:
        raise ValueError("the response is not a chat completion")
    choice = response.choices[0]
    content = choice.message.content or ""
    tokens = None
    if choice.logprobs and choice.logprobs.content:
        tokens = [(item.token, item.logprob) for item in choice.logprobs.content]
    told = response.usage
    usage = Usage(1, told.prompt_tokens, told.completion_tokens) if told else Usage(1, query.input_tokens, estimated_tokens([content]))
    reasoning = next((said for name in ("reasoning", "reasoning_content") if (said := getattr(choice.message, name, None))), None)
    return Reply(content, tokens, usage, choice.finish_reason != "length", reasoning)
