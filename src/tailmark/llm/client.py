"""Asks queries through one endpoint, many at a time: from the cache where it can, stopping once the endpoint is out of order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from tailmark import config
from tailmark.console import Progress
from tailmark.errors import EndpointError, TailmarkError
from tailmark.llm.cache import AnswerCache
from tailmark.llm.endpoint import Endpoint, Reply, Unanswered
from tailmark.llm.query import Query
from tailmark.llm.usage import Budget, Usage

_PATIENCE = 5
"""Requests in a row without an answer after which the endpoint counts as out of order; before its first answer, one that cannot be
reached is enough."""

Item = TypeVar("Item")


class Read(NamedTuple):
    """What a reply says.

    Attributes:
        value: for the caller.
        stored: JSON that is kept, so that the query is not paid for again; None: it is not worth keeping.
    """

    value: Any
    stored: Any


@dataclass
class _Health:
    """Whether the endpoint works: how many requests in a row got no answer, and the error that ended the run."""

    answered: bool = False
    in_a_row: int = 0
    failure: TailmarkError | None = None

    def good(self) -> None:
        self.answered, self.in_a_row = True, 0

    def bad(self, problem: Unanswered, options: config.Endpoint, place: str) -> None:
        """Count a request without an answer.

        Raises:
            EndpointError: there were too many of them.
        """
        self.in_a_row += 1
        if self.in_a_row < (_PATIENCE if self.answered or problem.refused else 1):
            return
        fix = f"check `{place}.model` and the other options there"
        if not problem.refused:
            fix = f"check that the server runs and `{place}.base_url` is right"
        raise EndpointError(
            f"The endpoint does not answer: {problem}.",
            where=options.base_url,
            fix=f"{fix}, then run the same command again; every answer so far is kept",
        )


@dataclass
class Client:
    """A model behind an endpoint.

    Attributes:
        options: where it is, and the budget.
        place: the option they stand in, e.g. `annotate.llm`: errors name it.
        cache: of the answers that were paid for.
        restore: makes a caller's value of what was kept.
        paid: what this client's requests took.
    """

    options: config.Endpoint
    place: str
    cache: AnswerCache
    restore: Callable[[Any], Any] = field(default=lambda stored: stored)
    paid: Usage = field(default_factory=Usage, init=False)
    _asking: dict[str, asyncio.Future[Any]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._account = f"{self.options.base_url} {self.options.model}"
        self._health = _Health()
        self._endpoint = Endpoint(self.options, self.place, Budget(self.options, self.spent, self.place), self._record)

    @property
    def spent(self) -> Usage:
        """What requests to this endpoint and model took so far, over all runs."""
        return self.cache.spent(self._account)

    def run(self, items: Sequence[Item], work: Callable[[Item], Awaitable[None]]) -> None:
        """Do `work`, which may `ask`, for every item: `options.concurrency` at a time, with progress.

        Raises:
            BudgetExceeded: the budget is used up.
            EndpointError: the endpoint does not answer or refuses the key, or the variable with the key is not set.
        """
        asyncio.run(self._run(items, work))

    async def _run(self, items: Sequence[Item], work: Callable[[Item], Awaitable[None]]) -> None:
        progress = Progress(f"asking {self.options.model}", len(items))
        left = iter(items)
        async with self._endpoint, asyncio.TaskGroup() as group:

            async def worker() -> None:
                for item in self._until_failure(left):
                    try:
                        await work(item)
                    except TailmarkError as error:
                        self._health.failure = self._health.failure or error
                    progress.advance()

            for _ in range(min(self.options.concurrency, len(items))):
                group.create_task(worker())
        if self._health.failure is not None:
            raise self._health.failure
        if len(items) > 1:
            progress.close()

    def _until_failure(self, items: Iterator[Item]) -> Iterator[Item]:
        """Items to take on; none once a request failed for good, while those under way end and are kept."""
        while self._health.failure is None and (item := next(items, None)) is not None:
            yield item

    async def ask(self, query: Query, read: Callable[[Reply], Read]) -> Any:
        """What `read` made of the answer: of the kept one, of an equal request's under way, else of one to the endpoint.

        Raises:
            Unanswered: there is no answer to this one.
        """
        if (stored := self.cache.get(query.key)) is not None:
            return self.restore(stored)
        if query.key not in self._asking:
            self._asking[query.key] = asyncio.ensure_future(self._pay(query, read))
        try:
            return await self._asking[query.key]
        except Unanswered as problem:
            self._health.bad(problem, self.options, self.place)
            raise
        finally:
            self._asking.pop(query.key, None)

    async def _pay(self, query: Query, read: Callable[[Reply], Read]) -> Any:
        reply = await self._endpoint.ask(query, lambda: self._health.failure is not None)
        self._health.good()
        value, stored = read(reply)
        self._record(reply.usage, query.key, stored)
        return value

    def _record(self, usage: Usage, key: str | None = None, stored: Any = None) -> None:
        self.paid += usage
        self.cache.record(self._account, usage, key, stored)
