"""Another server of the same model folder as an engine: vLLM or SGLang decode, template, markers and limits stay here.

It is sent the prompt's tokens, so that what no text can do here (write a control token, set a marker) it cannot do there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import openai

from tailmark.errors import EndpointError
from tailmark.generate.request import LIST_TOKENS, Listing
from tailmark.generate.splitting import read_answer
from tailmark.modelfolder import ModelInfo
from tailmark.serve.engine import End, EngineFailure, Overloaded, Piece, Work
from tailmark.serve.errors import later
from tailmark.serve.record import note
from tailmark.serve.streaming import AnswerText, TokenText

_RETRY_S = 5
_CONNECT_S = 10.0


class RemoteEngine:
    """Decodes through `/v1/completions` of another server. That server makes of lists what the model does: they are always free.

    Stop texts are not sent: there they would also end a list.

    Args:
        url: its address, e.g. `http://gpu:8001/v1`.
        places: requests that it is sent at a time.
        queue: how many more may wait here.

    Raises:
        EndpointError: it does not answer, or has no model.
    """

    listings: frozenset[Listing] = frozenset({"free"})
    alive = True

    def __init__(self, url: str, tokenizer: Any, info: ModelInfo, *, places: int, queue: int) -> None:
        self._url, self._tokenizer, self._info = url, tokenizer, info
        self._name, self.context = _look(url)
        self._most_waiting, self._places = queue, asyncio.Semaphore(places)
        self._client = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0)
        self.waiting = self.running = 0

    async def stream(self, work: Work) -> AsyncGenerator[Piece | End, None]:
        """See `Engine.stream`."""
        if self.waiting >= self._most_waiting and self._places.locked():
            raise Overloaded(_RETRY_S)
        self.waiting += 1
        try:
            await self._places.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            yield Piece("")
            async with aclosing(self._decode(work)) as events:
                async for event in events:
                    yield event
        except (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError) as error:
            note("the server that decodes does not answer", logging.ERROR, url=self._url, error=repr(error))
            raise later("The server that decodes does not answer.", "engine_away", _RETRY_S) from error
        except openai.OpenAIError as error:
            raise EngineFailure(f"{self._url}: {type(error).__name__}, status {getattr(error, 'status_code', None)}") from error
        finally:
            self.running -= 1
            self._places.release()

    def close(self) -> None:
        """The other server goes on."""

    async def _decode(self, work: Work) -> AsyncGenerator[Piece | End, None]:
        written = _Written(self._tokenizer, work)
        listed = LIST_TOKENS if self._info.writes_markers else 0
        sampling = work.request.sampling
        drawn: dict[str, Any] = {"top_p": sampling.top_p, "seed": sampling.seed} if sampling.temperature else {}
        stream = await self._client.completions.create(
            model=self._name, prompt=list(work.tokens), max_tokens=listed + work.max_new_tokens, temperature=sampling.temperature,
            stream=True, extra_body={"return_token_ids": True}, **drawn,
        )  # fmt: skip
        async with stream:
            async for choice in _choices(stream):
                if text := written.add(choice):
                    yield Piece(text)
                if written.done:
                    break
        yield written.end()


async def _choices(stream: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for chunk in stream:
        for choice in chunk.choices:
            yield choice


class _Written:
    """What the other server has written, cut where the answer has the tokens that it may have: there list and answer count together."""

    def __init__(self, tokenizer: Any, work: Work) -> None:
        self._tokenizer, self._work = tokenizer, work
        self._decoder, self._shown = TokenText(tokenizer), AnswerText(work.request.stop)
        self._tokens: list[int] = []
        self._list_tokens: int | None = None
        self.finished = False

    @property
    def done(self) -> bool:
        """Whether nothing more is wanted."""
        if self._list_tokens is None:
            return self.finished or len(self._tokens) >= LIST_TOKENS
        return self.finished or len(self._tokens) - self._list_tokens >= self._work.max_new_tokens

    def add(self, choice: Any) -> str:
        """Take in a part; returns its text."""
        ids = getattr(choice, "token_ids", None)
        if ids is None:  # SGLang sends text alone
            ids = self._tokenizer(choice.text, add_special_tokens=False)["input_ids"]
        text = ""
        for token in ids:
            if self.done:
                return text
            self._tokens.append(token)
            piece = self._decoder.add([token])
            text += piece
            self._shown.add(piece)
            self.finished = self._shown.stopped
            if self._list_tokens is None and self._shown.begun:
                self._list_tokens = len(self._tokens) if self._shown.listed else 0
        self.finished = self.finished or choice.finish_reason == "stop"
        return text

    def end(self) -> End:
        """All of it."""
        raw = str(self._tokenizer.decode(self._tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))
        listed = len(self._tokens) if self._list_tokens is None else self._list_tokens
        return End(read_answer(raw, tokens=len(self._tokens), finished=self.finished, stop=self._work.request.stop, list_tokens=listed))


def _look(url: str) -> tuple[str, int | None]:
    """The name of the model there, and most tokens of prompt and completion together where the server says.

    Raises:
        EndpointError: it does not answer, or has no model.
    """
    try:
        with openai.OpenAI(base_url=url, api_key="none", timeout=_CONNECT_S, max_retries=1) as client:
            found = client.models.list().data
    except openai.OpenAIError as error:
        raise EndpointError(
            f"The server that is to decode does not answer: {error}",
            where=f"--engine {url}",
            fix="start it first, with the same model folder (docs/serving.md has the command), and give its address up to /v1",
        ) from None
    if not found:
        raise EndpointError("The server that is to decode has no model.", where=f"--engine {url}", fix="start it with the model folder")
    return found[0].id, getattr(found[0], "max_model_len", None)
