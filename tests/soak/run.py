"""`make soak`: a server under mixed traffic for an hour, its model exchanged again and again; no request may be lost and nothing may leak.

`python -m tests.soak.run --minutes 60 --clients 8 --seed 1` prints a line now and then, what became of all requests, and what is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from tailmark.console import duration, say
from tailmark.register.registry import Registry, open_registry
from tests.integration.versions import checkout, make_config, register
from tests.serving import Process, serving_process
from tests.soak.traffic import Traffic

MIB = 2**20
WARM_UP = 1 / 3
"""Share of the time after which memory may grow no more: by then every kind of request and an exchange have been there."""
GROWTH = 0.04
"""How much more memory the last third may take than the one before, as a share; at least `LEAST_GROWTH`."""
LEAST_GROWTH = 24 * MIB
DRAIN_S = 60.0


@dataclass
class Watched:
    """The server's process: each sample is (seconds, resident bytes, open files, threads)."""

    samples: list[tuple[float, int, int, int]] = field(default_factory=list)
    exchanges: int = 0

    def resident(self, begin: float, end: float) -> int:
        """The least memory between two shares of the time: what stays when an exchange has let the older model go."""
        last = self.samples[-1][0]
        return min(resident for seconds, resident, _, _ in self.samples if begin * last <= seconds <= end * last)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 where nothing is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.run")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1, help="of who asks what")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="tailmark-soak-") as folder:
        wrong = soak(Path(folder), 60 * options.minutes, options.clients, options.seed)
    for problem in wrong:
        say(f"WRONG: {problem}")
    say("Nothing was lost and nothing leaks." if not wrong else f"{len(wrong)} things are wrong.")
    return 1 if wrong else 0


def soak(folder: Path, seconds: float, clients: int, seed: int) -> list[str]:
    """What is wrong after traffic of so many seconds."""
    config, layout = make_config(), checkout(folder)
    for number in (1, 2):
        register(config, layout, number)
    with (folder / "params.yaml").open("a", encoding="utf-8") as params:
        params.write("serve: {model: 'models:/tailmark@champion', poll_s: 1, batch_size: 4, queue: 2, default_new_tokens: 8}\n")
    with open_registry(config, layout) as registry:
        point(registry, 1)
        with serving_process(folder) as server:
            say(f"Serving at {server.url}; {clients} clients for {duration(seconds)}.")
            traffic, watched = _traffic(server, registry, seconds, clients, seed)
            _tell(traffic, watched)
            return [*_lost(traffic, server), *_leaks(server, watched), *_ends(server)]


def point(registry: Registry, version: int) -> None:
    """Move the alias."""
    registry.client.set_registered_model_alias(registry.name, "champion", str(version))


def _traffic(server: Process, registry: Registry, seconds: float, clients: int, seed: int) -> tuple[Traffic, Watched]:
    traffic = Traffic(server.url, time.monotonic() + seconds, random.Random(seed))
    watched, done = Watched(), threading.Event()
    watcher = threading.Thread(target=_watch, args=(server.process.pid, registry, seconds, watched, done))
    watcher.start()
    try:
        asyncio.run(traffic.run(clients))
    finally:
        done.set()
        watcher.join()
    return traffic, watched


def _watch(pid: int, registry: Registry, seconds: float, watched: Watched, done: threading.Event) -> None:
    """Sample the process every half second; exchange the model six times, and every minute of a longer run."""
    process, start, every = psutil.Process(pid), time.monotonic(), min(60.0, seconds / 6)
    exchange, tell = every / 2, 60.0
    while not done.wait(0.5):
        now = time.monotonic() - start
        watched.samples.append((now, process.memory_info().rss, process.num_fds(), process.num_threads()))
        if now > exchange:
            watched.exchanges += 1
            point(registry, 1 + watched.exchanges % 2)
            exchange += every
        if now > tell:
            say(f"  {duration(now)}, {watched.samples[-1][1] / MIB:.0f} MiB, {duration(max(0.0, seconds - now))} left")
            tell += 60.0


def _tell(traffic: Traffic, watched: Watched) -> None:
    say(f"{traffic.seen.total()} requests, the alias moved {watched.exchanges} times:")
    for (kind, became), count in sorted(traffic.seen.items()):
        say(f"  {kind:12s} {became:8s} {count}")
    begin, end = watched.resident(WARM_UP, 2 / 3), watched.resident(2 / 3, 1)
    say(f"Resident memory: {begin / MIB:.0f} MiB in the second third, {end / MIB:.0f} MiB in the last.")


def _lost(traffic: Traffic, server: Process) -> list[str]:
    """Requests without answer or refusal, and answers that the server gave up."""
    wrong = [f"lost {problem}" for problem in traffic.lost[:10]]
    if len(traffic.lost) > 10:
        wrong.append(f"{len(traffic.lost) - 10} more were lost")
    exchanges = [line for line in httpx.get(f"{server.url}/metrics").text.splitlines() if line.startswith("tailmark_model_exchanges_total")]
    if not any('outcome="exchanged"' in line for line in exchanges) or any('outcome="refused"' in line for line in exchanges):
        wrong.append(f"the model was not exchanged as it should: {exchanges}")
    if not any(kind in ("whole", "stream") and became == "200" for kind, became in traffic.seen):
        wrong.append("no request was answered")
    return wrong


def _leaks(server: Process, watched: Watched) -> list[str]:
    wrong = []
    before, after = watched.resident(WARM_UP, 2 / 3), watched.resident(2 / 3, 1)
    if after - before > max(GROWTH * before, LEAST_GROWTH):
        wrong.append(f"memory grew from {before / MIB:.0f} to {after / MIB:.0f} MiB")
    if busy := _still_busy(server):
        wrong.append(f"requests are still there when all clients are gone: {busy}")
    process = psutil.Process(server.process.pid)
    for what, number, seen in (("open files", process.num_fds(), 2), ("threads", process.num_threads(), 3)):
        usual = statistics.median(sample[seen] for sample in watched.samples)
        if number > usual + 8:
            wrong.append(f"{number} {what} when all clients are gone; {usual:.0f} were usual with them")
    return wrong


def _still_busy(server: Process) -> list[str]:
    limit, busy = time.monotonic() + DRAIN_S, ["unknown"]
    while busy and time.monotonic() < limit:
        lines = httpx.get(f"{server.url}/metrics").text.splitlines()
        busy = [
            line
            for line in lines
            if line.startswith(("tailmark_requests_running", "tailmark_requests_waiting")) and not line.endswith(" 0.0")
        ]
        time.sleep(0.1)
    return busy


def _ends(server: Process) -> list[str]:
    server.process.send_signal(signal.SIGTERM)
    code = server.process.wait(DRAIN_S)
    return [] if code == 0 else [f"it ended with code {code}"]


if __name__ == "__main__":
    raise SystemExit(main())
