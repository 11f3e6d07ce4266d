"""A model behind an OpenAI-compatible endpoint as a `Generator`: markers go to its chat template, its list is split off like any other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tailmark import config
from tailmark.errors import EndpointError
from tailmark.files import sha256_json
from tailmark.generate.request import LIST_TOKENS, Answer, Request
from tailmark.generate.splitting import read_answer
from tailmark.generate.store import AnswerStore, request_key
from tailmark.llm import AnswerCache, Client, Query, Reply, Unanswered
from tailmark.llm.client import Read
from tailmark.taxonomy import LIST_CLOSE, LIST_OPEN, escape


class EndpointModel:
    """Answers requests through an endpoint.

    The markers of a request are sent as `chat_template_kwargs`, which vLLM, SGLang and `transformers serve` pass to the model's template.
    An endpoint decodes in its own way, so that lists can neither be suppressed nor constrained there.

    Args:
        options: the endpoint; its temperature is that of requests.
        store: a file in which answers are kept as they come, so that a run that was killed goes on (None: they are not kept: the name of a
            model does not say which weights stand behind it).
        place: the option that `options` stand in: errors name it.
        list_tokens: what a marker list may take beside an answer (0: a model without markers).
    """

    def __init__(
        self, options: config.Endpoint, *, store: Path | None = None, place: str = "--endpoint", list_tokens: int = LIST_TOKENS
    ) -> None:
        self._options, self._place, self._list_tokens = options, place, list_tokens
        self._store = None if store is None else AnswerStore(store)
        self._client = Client(options, place, AnswerCache(None), lambda stored: Answer(**stored))

    def answer(self, requests: Sequence[Request], *, max_new_tokens: int, what: str | None = None) -> list[Answer]:
        """Answers in the order of the requests; equal requests are answered once.

        Args:
            max_new_tokens: most tokens of an answer. An endpoint counts list and answer together: it gets the list's allowance besides.

        Raises:
            EndpointError: a request asks for what an endpoint cannot do, got no answer, or the endpoint cannot be asked at all.
            BudgetExceeded: a limit of the options is reached.
        """
        del what  # the client shows its progress
        queries = [self._query(request, max_new_tokens) for request in requests]
        answers = {query.key: kept for query in queries if self._store is not None and (kept := self._store.get(query.key))}
        new = [item for item in zip(queries, requests, strict=True) if item[0].key not in answers]

        async def ask(item: tuple[Query, Request]) -> None:
            query, request = item
            try:
                answer = await self._client.ask(query, lambda reply: _read(reply, request))
                if self._store is not None and query.key not in answers:
                    self._store.add({query.key: answer})
                answers[query.key] = answer
            except Unanswered as problem:
                raise EndpointError(
                    f"A request got no answer: {problem}.",
                    where=f"{self._options.base_url}, prompt {request.messages[-1]['content'][:60]!r}",
                    fix="run the same command again" + ("" if self._store is None else "; every answer so far is kept"),
                ) from None

        self._client.run(new, ask)
        return [answers[query.key] for query in queries]

    def _query(self, request: Request, max_new_tokens: int) -> Query:
        if request.listing != "free":
            raise EndpointError(
                f"An endpoint decodes in its own way: it cannot hold a marker list to be {request.listing}.",
                where=self._place,
                fix="use the modes inferred, fixed, on-the-fly or wrong without --constrained, or a model folder of this machine",
            )
        sampling = request.sampling
        more: dict[str, Any] = {"temperature": sampling.temperature}
        if sampling.temperature:
            more |= {"top_p": sampling.top_p, "seed": sampling.seed}
        if request.stop:
            more["stop"] = list(request.stop)
        if request.markers is not None:
            more["extra_body"] = {"chat_template_kwargs": {"markers": dict(request.markers)}}
        identity = sha256_json([self._options.base_url, self._options.model, self._list_tokens])
        key = request_key(identity, request, max_new_tokens)
        return Query(tuple(dict(turn) for turn in request.messages), max_new_tokens + self._list_tokens, key, more=more)


def _read(reply: Reply, request: Request) -> Read:
    answer = read_answer(_written(reply), tokens=reply.usage.output_tokens, finished=reply.finished, stop=request.stop)
    return Read(answer, asdict(answer))


def _written(reply: Reply) -> str:
    """What the model wrote, put together again where the endpoint split the list off (our server, vLLM with our plugin)."""
    return reply.content if reply.reasoning is None else f"{LIST_OPEN}\n{reply.reasoning}\n{LIST_CLOSE}\n{escape(reply.content)}"
