"""What is noted of each request: a line of the log and the metrics. Never a prompt, an answer, a marker's value or a key."""

from __future__ import annotations

import json
import logging
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector, disable_created_metrics

from tailmark.generate.request import Answer
from tailmark.serve.models import Models

LOG = logging.getLogger("tailmark.serve")

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 40, 80, 160)


class Metrics:
    """The metrics of one server."""

    def __init__(self) -> None:
        disable_created_metrics()
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = self._counter("requests", "requests by endpoint and status", "endpoint", "status")
        self.unfinished = self._counter("requests_unfinished", "answers that were given up, by reason", "reason")
        self.seconds = self._histogram("request_seconds", "seconds from request to the end of the response", "endpoint")
        self.queue_seconds = self._histogram("queue_seconds", "seconds until decoding began", "model")
        self.first_seconds = self._histogram("first_text_seconds", "seconds until the list was closed and the answer began", "model")
        self.prompt_tokens = self._counter("prompt_tokens", "tokens of prompts", "model")
        self.answer_tokens = self._counter("completion_tokens", "tokens written, lists included", "model")
        self.list_tokens = self._counter("list_tokens", "tokens of marker lists", "model")
        self.unclosed = self._counter("lists_unclosed", "answers whose marker list was never closed", "model")
        self.swaps = self._counter("model_exchanges", "versions that the alias moved to, by outcome", "outcome")
        self.model = Gauge("tailmark_model_info", "1 for what is served", ["model", "version", "digest"], registry=self.registry)
        self.running = Gauge("tailmark_requests_running", "requests being decoded", ["model"], registry=self.registry)
        self.waiting = Gauge("tailmark_requests_waiting", "requests in the queue", ["model"], registry=self.registry)

    def look(self, models: Models) -> None:
        """Bring what is true of this moment up to date."""
        self.model.clear()
        for served in models.all:
            self.model.labels(served.name, served.version or "", served.digest[:12]).set(1)
            self.running.labels(served.name).set(served.engine.running)
            self.waiting.labels(served.name).set(served.engine.waiting)

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(f"tailmark_{name}", what, labels, registry=self.registry)

    def _histogram(self, name: str, what: str, *labels: str) -> Histogram:
        return Histogram(f"tailmark_{name}", what, labels, buckets=_SECONDS, registry=self.registry)


@dataclass
class Record:
    """One request.

    Attributes:
        endpoint: the route, never the path as it was sent.
        key: the name of the API key.
        about: what else is known of it: model, version, mode, numbers of tokens.
    """

    metrics: Metrics
    endpoint: str = "none"
    key: str | None = None
    status: int = 0
    about: dict[str, Any] = field(default_factory=dict)
    name: str = field(default_factory=lambda: f"req_{uuid.uuid4().hex}")
    since: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Since it came."""
        return round(time.monotonic() - self.since, 4)

    def began(self) -> None:
        """Its decoding has begun."""
        if "queue_s" not in self.about:
            self.about["queue_s"] = self.seconds
            self.metrics.queue_seconds.labels(self.about["model"]).observe(self.seconds)

    def wrote(self) -> None:
        """The first of its text can be shown."""
        self.about["first_s"] = self.seconds
        self.metrics.first_seconds.labels(self.about["model"]).observe(self.seconds)

    def ended(self, answer: Answer | None, prompt_tokens: int) -> None:
        """Its answer is there, or will not come (None)."""
        model = self.about["model"]
        self.about["prompt_tokens"] = prompt_tokens
        self.metrics.prompt_tokens.labels(model).inc(prompt_tokens)
        if answer is None:
            return
        self.about |= {"completion_tokens": answer.tokens, "list_tokens": answer.list_tokens}
        self.about["finish_reason"] = "stop" if answer.finished else "length"
        self.metrics.answer_tokens.labels(model).inc(answer.tokens)
        self.metrics.list_tokens.labels(model).inc(answer.list_tokens)
        if not answer.closed:
            self.metrics.unclosed.labels(model).inc()

    def unfinished(self, reason: str) -> None:
        """It was given up."""
        self.about["unfinished"] = reason
        self.metrics.unfinished.labels(reason).inc()

    def close(self) -> None:
        """The response is sent."""
        self.metrics.requests.labels(self.endpoint, str(self.status)).inc()
        self.metrics.seconds.labels(self.endpoint).observe(self.seconds)
        key = {"key": self.key} if self.key else {}
        note("request", id=self.name, endpoint=self.endpoint, status=self.status, seconds=self.seconds, **key, **self.about)


def note(what: str, level: int = logging.INFO, /, **about: Any) -> None:
    """One line of the log."""
    LOG.log(level, what, extra={"about": about})


class JSONLines(logging.Formatter):
    """Each record as one JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        content = {"time": _stamp(record.created), "level": record.levelname.lower(), "event": record.getMessage()}
        content |= getattr(record, "about", {})
        if record.exc_info:
            content["traceback"] = self.formatException(record.exc_info)
        return json.dumps(content, ensure_ascii=False, default=str)


def _stamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03d}Z"
