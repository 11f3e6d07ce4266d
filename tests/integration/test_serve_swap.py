"""The alias moves while requests are under way: none is lost, and a version that is not what was registered is refused."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tailmark.config import Config
from tailmark.layout import Layout
from tailmark.register.registry import Registry, open_registry
from tailmark.serve.command import Server
from tests.integration.versions import checkout, make_config, register
from tests.serving import HELLO, async_client, client, serving, wait_until


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Config, Layout, Registry]]:
    """Two versions."""
    config, layout = make_config(), checkout(tmp_path_factory.mktemp("swap"))
    for seed in (1, 2):
        register(config, layout, seed)
    with open_registry(config, layout) as registry:
        yield config, layout, registry


def champion(registry: Registry, version: str) -> None:
    registry.client.set_registered_model_alias(registry.name, "champion", version)


def served_version(server: Server) -> str | None:
    return server.models.named("tailmark").version


async def keep_asking(server: Server, until: asyncio.Event) -> list[Any]:
    """Eight clients, one after the other answer, whole and streamed; every answer with the model that gave it."""
    made: list[Any] = []

    async def one(number: int) -> None:
        async with async_client(server) as asking:
            while not until.is_set():
                chunks = await asking.chat.completions.create(
                    model="tailmark", messages=HELLO, max_tokens=20 + number * 7, stream=True, stream_options={"include_usage": True}
                )
                texts = [chunk async for chunk in chunks]
                made.append((number, texts[0].system_fingerprint, texts[-1].usage.completion_tokens, texts[-1].system_fingerprint))

    await asyncio.gather(*(one(number) for number in range(8)))
    return made


def test_a_version_that_is_not_what_was_registered_is_refused(registered: tuple[Config, Layout, Registry]) -> None:
    config, layout, registry = registered
    champion(registry, "1")
    stored = registry.client.get_model_version_download_uri(registry.name, "2").removeprefix("file://")
    weights = next(Path(stored).rglob("marked/model.safetensors"))
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with serving("models:/tailmark@champion", config=config, layout=layout, poll_s=0.1) as server:
        champion(registry, "2")

        def refused() -> bool:
            return 'outcome="refused"} 1.0' in httpx.get(f"{server.url}/metrics").text

        wait_until(refused)
        time.sleep(0.5)
        assert refused()  # once, not at each look
        assert served_version(server) == "1"
        assert client(server).chat.completions.create(model="tailmark", messages=HELLO, max_tokens=4).usage
    weights.write_bytes(whole)


def test_the_model_is_exchanged_and_no_request_is_lost(registered: tuple[Config, Layout, Registry]) -> None:
    config, layout, registry = registered
    champion(registry, "1")
    with serving("models:/tailmark@champion", config=config, layout=layout, poll_s=0.1, batch_size=4) as server:
        assert served_version(server) == "1"
        old = weakref.ref(server.models.named("tailmark").engine)

        async def scene() -> list[Any]:
            until = asyncio.Event()
            asking = asyncio.create_task(keep_asking(server, until))
            await asyncio.sleep(1)
            await asyncio.to_thread(champion, registry, "2")
            while served_version(server) != "2":
                await asyncio.sleep(0.05)
            await asyncio.sleep(1)
            until.set()
            return await asking

        made = asyncio.run(scene())
        first = [fingerprint.partition("-")[0] for _, fingerprint, _, _ in made]
        assert set(first) == {"1", "2"}
        assert all(start == end for _, start, _, end in made)
        by_request: dict[tuple[int, str], set[int]] = {}
        for number, fingerprint, tokens, _ in made:
            by_request.setdefault((number, fingerprint), set()).add(tokens)
        assert all(len(counts) == 1 for counts in by_request.values())
        wait_until(lambda: gc.collect() >= 0 and old() is None)
        metrics = httpx.get(f"{server.url}/metrics").text
        assert 'tailmark_model_exchanges_total{outcome="exchanged"} 1.0' in metrics
        assert 'version="2"' in metrics
        assert client(server).models.retrieve("tailmark").version == "2"  # type: ignore[attr-defined]


def test_a_registry_that_is_away_changes_nothing(registered: tuple[Config, Layout, Registry]) -> None:
    config, layout, registry = registered
    champion(registry, "1")
    with serving("models:/tailmark@champion", config=config, layout=layout, poll_s=0.1) as server:
        registry.client.delete_registered_model_alias(registry.name, "champion")
        time.sleep(0.5)
        assert served_version(server) == "1"
        assert client(server).chat.completions.create(model="tailmark", messages=HELLO, max_tokens=4).usage
