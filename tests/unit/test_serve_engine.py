"""Decoding for many: rows that join and leave, a request that breaks, models whose caches cannot be put together."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from transformers import AutoModelForCausalLM, MistralConfig

from tailmark.chat import token_ids
from tailmark.errors import TaxonomyError
from tailmark.generate.decode import Batch, generate, prompt_text
from tailmark.generate.loading import LoadedModel, load_model
from tailmark.generate.request import Answer, Request, Sampling
from tailmark.generate.row import Row
from tailmark.serve.engine import End, EngineClosed, EngineFailure, Overloaded, Piece, Work
from tailmark.serve.local import LocalEngine
from tests.marked_model import marked_model


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model(marked_model(tmp_path_factory.mktemp("engine")))


@pytest.fixture(scope="module")
def sliding(loaded: LoadedModel) -> LoadedModel:
    """A model that sees the last 24 tokens alone."""
    config = MistralConfig(
        vocab_size=768, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        sliding_window=24,
    )  # fmt: skip
    return replace(loaded, model=AutoModelForCausalLM.from_config(config).eval())


REQUESTS = [
    Request([{"role": "user", "content": "a " * (50 - 7 * number)}], listing=listing, sampling=Sampling(1.0 * (number % 2), seed=number))
    for number, listing in enumerate(("constrained", "free", "absent", "constrained", "free", "constrained"))
]


def row(loaded: LoadedModel, request: Request) -> Row:
    text = prompt_text(loaded, request)
    return Row(loaded, request, text, token_ids(loaded.tokenizer, [text])[0], 20)


@pytest.mark.parametrize("chunk", [None, 5])
def test_rows_that_join_later_write_what_they_write_alone(loaded: LoadedModel, chunk: int | None) -> None:
    rows = [row(loaded, request) for request in REQUESTS]
    running, joined = Batch(loaded, rows[:1], chunk), 1
    while running.rows:
        running.step()
        running.leave()
        if joined < len(rows):
            entering = Batch(loaded, rows[joined : joined + 2], chunk)
            joined += 2
            while any(entering.reading):
                entering.step()
            entering.step()
            entering.leave()
            running.join(entering)
        if running.rows:
            running.trim()
    assert [item.answer() for item in rows] == [generate(loaded, [request], max_new_tokens=20, batch_size=1)[0] for request in REQUESTS]


def work(loaded: LoadedModel, request: Request, most: int = 20) -> Work:
    text = prompt_text(loaded, request)
    return Work(request, text, tuple(token_ids(loaded.tokenizer, [text])[0]), most)


async def answer(engine: LocalEngine, asked: Work) -> tuple[str, Answer]:
    """The text of all pieces, and the answer."""
    pieces = ""
    async for event in engine.stream(asked):
        if isinstance(event, Piece):
            pieces += event.text
        else:
            assert isinstance(event, End)
            return pieces, event.answer
    raise AssertionError("no end")


def test_models_with_a_window_are_served_in_waves(sliding: LoadedModel) -> None:
    requests = [replace(request, listing="free") for request in REQUESTS]
    engine = LocalEngine(sliding, batch_size=3, queue=9)
    assert engine.listings == {"free", "absent"}

    async def together() -> list[tuple[str, Answer]]:
        return await asyncio.gather(*(answer(engine, work(sliding, request, 30)) for request in requests))

    made = asyncio.run(together())
    engine.close()
    assert [item for _, item in made] == [generate(sliding, [request], max_new_tokens=30, batch_size=1)[0] for request in requests]
    assert all(item.raw.startswith(pieces) for pieces, item in made)


def test_a_request_that_breaks_is_told_and_the_next_ones_are_answered(loaded: LoadedModel) -> None:
    engine = LocalEngine(loaded, batch_size=3, queue=9)
    good = work(loaded, REQUESTS[0])
    broken = replace(good, tokens=(10**6,))
    refused = replace(good, request=replace(good.request, written={"lang": "Klingon"}))

    async def scene() -> None:
        with pytest.raises(TaxonomyError):
            await answer(engine, refused)
        with pytest.raises(EngineFailure, match="IndexError"):
            await answer(engine, broken)
        _, made = await answer(engine, good)
        assert made == generate(loaded, [REQUESTS[0]], max_new_tokens=20, batch_size=1)[0]

    asyncio.run(scene())
    assert engine.alive
    engine.close()
    assert not engine.alive
    with pytest.raises(EngineClosed):
        asyncio.run(answer(engine, good))


def test_the_queue_has_an_end(loaded: LoadedModel) -> None:
    engine = LocalEngine(loaded, batch_size=1, queue=1)
    asked = work(loaded, REQUESTS[2], 1000)

    async def scene() -> None:
        streams = [engine.stream(asked) for _ in range(2)]
        first = asyncio.create_task(anext(streams[0]))
        await first
        second = asyncio.create_task(anext(streams[1]))
        while not engine.waiting:
            await asyncio.sleep(0)
        with pytest.raises(Overloaded) as caught:
            await anext(engine.stream(asked))
        assert caught.value.retry_s >= 1
        await streams[0].aclose()  # its place is free at the next step
        await second
        await streams[1].aclose()

    asyncio.run(scene())
    engine.close()


def test_closing_ends_what_is_under_way(loaded: LoadedModel) -> None:
    engine = LocalEngine(loaded, batch_size=1, queue=1)

    async def scene() -> None:
        stream = engine.stream(work(loaded, REQUESTS[2], 1000))
        await anext(stream)
        await asyncio.to_thread(engine.close)
        with pytest.raises(EngineClosed):
            async for _ in stream:
                pass

    asyncio.run(scene())
