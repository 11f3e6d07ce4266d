"""Requests a second, latency and time to the first words: our server, `transformers serve` and vLLM on the same folders.

    python -m benchmarks.serve models/marked models/baseline --rows data/annotated/rows --clients 1 4 16 --out serve.json

All servers run at once on the same cores and are asked in turn: in every round each of them answers the same held-out prompts in each way,
with every number of clients. So what else the machine does meets all of them, and ratios within a round say more than seconds. Work is
equal: an answer has at most `--tokens` tokens everywhere, and a marker list the tokens that the model gives it. Servers and clients share
`--cores`. vLLM takes part where `make engines` has installed it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple, cast

import openai

from tailmark.provenance import code_version, hardware
from tailmark.records import HELDOUT, read_rows
from tailmark.serve.streaming import AnswerText
from tests.engines import PARSER, VLLM, free_port, running, transformers_command, vllm_command, vllm_environment

Prompt = list[dict[str, str]]


class Took(NamedTuple):
    """One request: seconds in all and to the answer's first words (None: it had none), and tokens written."""

    seconds: float
    first: float | None
    tokens: int
    listed: int


@dataclass
class Way:
    """One server asked in one way.

    Attributes:
        limits: most tokens for each prompt.
        took: per number of clients the requests of each round, and the seconds of each round.
    """

    engine: str
    name: str
    client: openai.OpenAI
    model: str
    limits: Sequence[int]
    body: Mapping[str, Any] = field(default_factory=dict)
    took: dict[int, list[tuple[float, list[Took]]]] = field(default_factory=dict)

    def ask(self, prompt: Prompt, most: int) -> Took:
        shown, start, first, usage = AnswerText(), time.perf_counter(), None, None
        stream = self.client.chat.completions.create(
            model=self.model, messages=cast("Any", prompt), temperature=0, max_tokens=most, stream=True,
            stream_options={"include_usage": True}, extra_body=dict(self.body),
        )  # fmt: skip
        for chunk in stream:
            usage = chunk.usage or usage
            text = chunk.choices[0].delta.content if chunk.choices else None
            if text and shown.add(text) and first is None:
                first = time.perf_counter() - start
        tokens = usage.completion_tokens if usage else 0
        details = usage.completion_tokens_details if usage else None
        return Took(time.perf_counter() - start, first, tokens, (details.reasoning_tokens or 0) if details else 0)

    def round(self, prompts: Sequence[Prompt], clients: int) -> None:
        """Every prompt once, or, where there are fewer prompts than clients, as often as gives each client one."""
        asked = list(islice(cycle(zip(prompts, self.limits, strict=False)), max(len(prompts), clients)))
        start = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            took = list(pool.map(lambda one: self.ask(*one), asked))
        self.took.setdefault(clients, []).append((time.perf_counter() - start, took))

    def figures(self, clients: int) -> dict[str, Any]:
        rounds = self.took[clients]
        took = [one for _, requests in rounds for one in requests]
        seconds, first = [one.seconds for one in took], [one.first for one in took if one.first is not None]
        return {
            "engine": self.engine, "way": self.name, "clients": clients, "requests": len(took),
            "requests_s": [len(requests) / spent for spent, requests in rounds],
            "p50_s": quantile(seconds, 50), "p95_s": quantile(seconds, 95),
            "first_p50_s": quantile(first, 50), "first_p95_s": quantile(first, 95),
            "tokens": statistics.fmean(one.tokens for one in took), "list_tokens": statistics.fmean(one.listed for one in took),
        }  # fmt: skip


def quantile(values: Sequence[float], percent: int) -> float | None:
    """By interpolation between the values; None where there are none."""
    if len(values) < 2:
        return values[0] if values else None
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def connect(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=600)


def ours(options: argparse.Namespace, stack: ExitStack, logs: Path) -> Iterator[Way]:
    port = free_port()
    command = [sys.executable, "-m", "tailmark.cli", "serve", "--model", str(options.marked), "--baseline", str(options.baseline)]
    url = stack.enter_context(running([*command, "--port", str(port)], port, logs / "tailmark.log"))
    most = [options.tokens] * options.prompts
    for name, model, body in (
        ("baseline", "baseline", {}),
        ("absent", "tailmark", {"mode": "absent"}),
        ("free", "tailmark", {"mode": "inferred", "constrained": False}),
        ("constrained", "tailmark", {"mode": "inferred", "constrained": True}),
    ):
        yield Way("tailmark", name, connect(url), model, most, body)


def stock(options: argparse.Namespace, stack: ExitStack, logs: Path, listed: Sequence[int]) -> Iterator[Way]:
    """The stock engines, a server for each folder; `listed`: tokens of each prompt's list, which they count against the limit."""
    for name, folder, more in (("baseline", options.baseline, [0] * len(listed)), ("free", options.marked, listed)):
        limits = [options.tokens + count for count in more]
        if "transformers" in options.engines:
            port = free_port()
            url = stack.enter_context(running(transformers_command(folder, port), port, logs / f"transformers-{name}.log"))
            yield Way("transformers serve", name, connect(url), str(folder), limits)
        if "vllm" in options.engines and VLLM.exists():
            port = free_port()
            # The same prompts come again in every round; elsewhere nothing of them is kept.
            plain = ("--no-enable-prefix-caching", "--reasoning-parser-plugin", str(PARSER), "--reasoning-parser", "tailmark")
            command = vllm_command(folder, port, *plain)
            environment = vllm_environment(",".join(map(str, options.cores[: options.threads])))
            url = stack.enter_context(running(command, port, logs / f"vllm-{name}.log", environment))
            yield Way("vLLM", name, connect(url), "marked", limits)


def measure(ways: Sequence[Way], prompts: Sequence[Prompt], options: argparse.Namespace) -> Iterator[list[dict[str, Any]]]:
    """Figures of all rounds so far, after each one."""
    for way in ways:  # the first requests of a server warm it up
        way.round(prompts[:2], 2)
        way.took.clear()
    for turn in range(options.rounds):
        for clients in options.clients:
            for way in ways:
                way.round(prompts, clients)
                took = way.took[clients][-1][0]
                print(f"round {turn + 1}, {clients} clients, {way.engine} {way.name}: {took:.1f} s", file=sys.stderr, flush=True)
        yield [way.figures(clients) | {"of_baseline": of_baseline(way, ways, clients)} for clients in options.clients for way in ways]


def of_baseline(way: Way, ways: Sequence[Way], clients: int) -> list[float]:
    """Per round the requests a second as a share of those of the same engine with the baseline."""
    baseline = next(other for other in ways if other.engine == way.engine and other.name == "baseline")
    return [one / spent for (spent, _), (one, _) in zip(way.took[clients], baseline.took[clients], strict=True)]


def table(figures: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "| clients | server | list | requests/s | p50 s | p95 s | first words p50 s | tokens | requests/s of its baseline |",
        "|---" * 9 + "|",
    ]
    for row in figures:
        ratio = row["of_baseline"]
        shown = [
            row["clients"],
            row["engine"],
            row["way"],
            f"{statistics.median(row['requests_s']):.2f}",
            f"{row['p50_s']:.2f}",
            f"{row['p95_s']:.2f}",
        ]
        first = "-" if row["first_p50_s"] is None else f"{row['first_p50_s']:.2f}"
        shown += [first, f"{row['tokens']:.0f}", f"{statistics.median(ratio):.2f} ({min(ratio):.2f} to {max(ratio):.2f})"]
        lines.append("| " + " | ".join(map(str, shown)) + " |")
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("marked", type=Path)
    parser.add_argument("baseline", type=Path)
    parser.add_argument("--rows", type=Path, default=Path("data/annotated/rows"))
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=32, help="most tokens of an answer")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cores", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--threads", type=int, default=2, help="of each server; more than there are free cores make it much slower")
    parser.add_argument("--engines", nargs="*", choices=["transformers", "vllm"], default=["transformers", "vllm"])
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def main() -> None:
    options = parse()
    options.marked, options.baseline = options.marked.resolve(), options.baseline.resolve()
    os.sched_setaffinity(0, options.cores)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    heldout = [row["prompt"] for row in read_rows(options.rows) if row["split"] == HELDOUT][: options.prompts]
    prompts = [[{"role": turn["role"], "content": turn["content"]} for turn in prompt] for prompt in heldout]
    options.prompts = len(prompts)
    with ExitStack() as stack, tempfile.TemporaryDirectory() as logs:
        ways = list(ours(options, stack, Path(logs)))
        free = next(way for way in ways if way.name == "free")
        listed = [free.ask(prompt, 1).listed for prompt in prompts]
        ways += stock(options, stack, Path(logs), listed)
        for figures in measure(ways, prompts, options):
            report(figures, options)


def report(figures: Sequence[Mapping[str, Any]], options: argparse.Namespace) -> None:
    """Print the table; write it with what it was measured on. A run that is stopped keeps its whole rounds."""
    print(table(figures), flush=True)
    if options.out:
        about = {
            "hardware": hardware(),
            "code": code_version(Path.cwd()),
            "prompts": options.prompts,
            "tokens": options.tokens,
            "threads": options.threads,
        }
        options.out.write_text(json.dumps({**about, "figures": figures}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
