"""Where the work of the data stages runs: in the processes of this machine, or on a Ray cluster. Same functions, same bytes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from types import ModuleType
from typing import Any, Protocol, TypeVar

from tailmark.config import Engine
from tailmark.errors import DataError

A = TypeVar("A")
B = TypeVar("B")
Initializer = Callable[..., object]

_AHEAD = 2
"""Chunks in flight a worker: one being done and one waiting, so that memory stays bounded and nobody idles."""
_CONNECT_S = 10


class Run(Protocol):
    """Maps a function over chunks: results come in the order of the chunks, which are read as workers get free."""

    def __call__(self, function: Callable[[A], B], chunks: Iterable[A]) -> Iterator[B]:
        """The function's results."""
        ...


def workers_of(engine: Engine, workers: int = 0) -> int:
    """How many workers `mapper` starts: what is asked for, else `engine.workers`, else one a core that this process may use."""
    return workers or engine.workers or len(os.sched_getaffinity(0))


@contextmanager
def mapper(engine: Engine, workers: int = 0, initializer: Initializer | None = None, initargs: Sequence[Any] = ()) -> Iterator[Run]:
    """A map over chunks, on the engine that the config names.

        with mapper(config.engine, initializer=load, initargs=(taxonomy,)) as run:
            for result in run(annotate_chunk, chunks):
                ...

    Functions, arguments and results travel by value, so functions stand at the top of a module, take one chunk (a tuple for several
    things), and depend on it and on what `initializer` set up in their worker, not on files beside it. Then every engine and every
    number of workers gives the same results. One local worker is this process itself: no process is started. `run` may be called
    several times; an error of `function` is raised where its result would have come.

    Args:
        workers: how many; 0 means `engine.workers`, and where that is 0 too, one a core.
        initializer: called once in each worker with `initargs`, e.g. to load what the function needs into a module's variable.

    Raises:
        DataError: a worker was killed, the Ray cluster cannot be reached, or Ray is not installed.
    """
    count = workers_of(engine, workers)
    if engine.kind == "ray":
        with _ray(engine, count if workers or engine.workers else 0, initializer, initargs) as run:
            yield run
    elif count == 1:
        if initializer:
            initializer(*initargs)
        yield lambda function, chunks: (function(chunk) for chunk in chunks)
    else:
        with _processes(count, initializer, initargs) as run:
            yield run


@contextmanager
def _processes(count: int, initializer: Initializer | None, initargs: Sequence[Any]) -> Iterator[Run]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([initializer.__module__ if initializer else __name__])
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_start, initargs=(initializer, tuple(initargs)))

    def run(function: Callable[[A], B], chunks: Iterable[A]) -> Iterator[B]:
        return _in_order((pool.submit(function, chunk) for chunk in chunks), count * _AHEAD, Future.result)

    try:
        yield run
    except BrokenProcessPool:
        fix = "set `engine.workers` to fewer processes in params.yaml, then run the command again"
        raise DataError("A worker process was killed, most likely for lack of memory.", fix=fix) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _start(initializer: Initializer | None, initargs: tuple[Any, ...]) -> None:
    # Ctrl-C reaches every process of the terminal; the parent alone says so and ends the pool.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if initializer:
        initializer(*initargs)


def _end_with_parent() -> None:
    """A pool's worker waits for work for ever; where the parent was killed, none comes."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _in_order(tasks: Iterator[A], ahead: int, result: Callable[[A], B]) -> Iterator[B]:
    """The tasks' results in order, with at most `ahead` tasks started and not yet taken."""
    waiting: deque[A] = deque()
    for task in tasks:
        waiting.append(task)
        if len(waiting) >= ahead:
            yield result(waiting.popleft())
    while waiting:
        yield result(waiting.popleft())


class _Actor:
    """A Ray worker: a process with the initializer's state."""

    def __init__(self, initializer: Initializer | None, initargs: tuple[Any, ...]) -> None:
        if initializer:
            initializer(*initargs)

    def call(self, function: Callable[[A], B], chunk: A) -> B:
        return function(chunk)


@contextmanager
def _ray(engine: Engine, count: int, initializer: Initializer | None, initargs: Sequence[Any]) -> Iterator[Run]:
    ray = _connect(engine)
    try:
        count = count or max(int(ray.cluster_resources().get("CPU", 1)), 1)
        kind = ray.remote(num_cpus=1, max_restarts=0)(_Actor)
        actors = [kind.remote(initializer, tuple(initargs)) for _ in range(count)]

        def result(task: Any) -> Any:
            try:
                return ray.get(task)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error  # the function's own, as from every engine

        def run(function: Callable[[A], B], chunks: Iterable[A]) -> Iterator[B]:
            tasks = (actors[number % count].call.remote(function, chunk) for number, chunk in enumerate(chunks))
            return _in_order(tasks, count * _AHEAD, result)

        yield run
    except ray.exceptions.RayActorError:
        fix = "see the cluster's log; set `engine.workers` to fewer workers in params.yaml, then run the command again"
        raise DataError("A Ray worker was killed, most likely for lack of memory.", where=engine.address, fix=fix) from None
    finally:
        ray.shutdown()


def _connect(engine: Engine) -> ModuleType:
    """Ray, connected to `engine.address`.

    Raises:
        DataError: it is not installed, or nothing answers at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        fix = "pip install -r requirements-ray.txt, or set `engine.kind` to local"
        raise DataError("Ray is not installed.", where="params.yaml: engine.kind", fix=fix) from None
    try:
        _probe(engine.address)
        ray.init(address=engine.address, log_to_driver=False, include_dashboard=False if engine.address == "local" else None)
    except (OSError, ValueError, RuntimeError) as error:
        fix = "start the cluster (`ray start --head`), correct `engine.address`, or set `engine.kind` to local"
        raise DataError(f"The Ray cluster cannot be reached: {error}", where=f"engine.address: {engine.address}", fix=fix) from None
    return ray  # type: ignore[no-any-return,unused-ignore]


def _probe(address: str) -> None:
    """Raise where nothing listens at `HOST:PORT`: Ray itself would try for minutes and then end the interpreter."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
