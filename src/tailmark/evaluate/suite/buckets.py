"""Does an answer fall into the length bucket that was asked for?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tailmark.config import LengthBuckets
from tailmark.evaluate.benchmarks import Bench
from tailmark.evaluate.scores import Measure, ScoredMode
from tailmark.evaluate.suite.base import Benchmark, Item, Messages, sample
from tailmark.evaluate.suite.data import Files
from tailmark.evaluate.suite.prompts import CONTROL_MODES, file_items, heldout_items
from tailmark.evaluate.suite.runner import GIVEN
from tailmark.generate.request import Answer
from tailmark.layout import Layout
from tailmark.measure.lengths import BUCKET, Steps, length_bucket, length_steps, measure_lengths

NAME = "length_buckets"


def in_words(steps: Steps) -> dict[str, str]:
    """Each step as an instruction."""
    (first, _), *others = steps
    ends = [least - 1 for _, least in others]
    middle = {value: f"Answer in {least} to {end} words." for (value, least), end in zip(others, ends[1:], strict=False)}
    return {first: f"Answer in fewer than {ends[0] + 1} words."} | middle | {others[-1][0]: f"Answer in more than {ends[-1]} words."}


class LengthBucketsBenchmark(Benchmark):
    """Every prompt is asked for every bucket: in words, and where markers are given by `length_bucket` instead of them.

    Scores: `inside`, `inside_<bucket>`, 1 or 0, and `tokens`, the answer's length. A bucket that cannot be reached within
    `max_new_tokens` is not asked for: a token of the model is at most one of the text, as a rule less.
    """

    name = NAME
    modes = CONTROL_MODES

    def __init__(self, options: LengthBuckets, bench: Bench, layout: Layout) -> None:
        self._options, self._bench = options, bench
        self._prompts = Files(layout.root, options.path) if options.path else None
        self.files = self._prompts.digests if self._prompts else {}
        most = options.max_new_tokens or bench.config.evaluate.max_new_tokens
        self._steps = length_steps(bench.marked.taxonomy)
        self._words = in_words(self._steps)
        self._buckets = [name for name, least in self._steps if least <= most]
        self.not_run = {f"bucket {name}": f"max_new_tokens ({most}) ends before it" for name in self._words if name not in self._buckets}
        if BUCKET not in bench.marked.info.markers:
            self.not_run["the marker"] = f"the model was not trained with {BUCKET}"
        else:
            lacking = [name for name in self._buckets if not bench.marked.taxonomy.allows(BUCKET, name)]
            self._buckets = [name for name in self._buckets if name not in lacking]
            self.not_run |= {f"bucket {name}": f"the taxonomy has no {BUCKET} of that name" for name in lacking}
        titles = {"inside": "inside the bucket asked for"} | {f"inside_{name}": f"inside {name}" for name in self._buckets}
        self.measures = [
            Measure(NAME, score, f"Length buckets: {title}", "share", higher_is_better=True) for score, title in titles.items()
        ]

    def load(self) -> Sequence[Item]:
        """Every prompt once a bucket."""
        if self._prompts is None:
            items: Sequence[Item] = heldout_items(self._bench, self._options.limit, NAME)
        else:
            items = sample(file_items(self._prompts), self._options.limit, self._bench.config.seed)
        return [_asked(item, bucket) for item in items for bucket in self._buckets]

    def prompt(self, item: Item, mode: ScoredMode) -> Messages:
        """With the bucket in words, or without where the marker holds it."""
        if mode in GIVEN:
            return item.messages
        *before, last = item.messages
        return (*before, {**last, "content": f"{last['content'].rstrip()}\n\n{self._words[item.data['bucket']]}"})

    def score(self, item: Item, answer: Answer) -> Mapping[str, float]:
        """Whether it is inside, and its length."""
        tokens = measure_lengths(answer.text, item.data["lang"]).tokens
        inside = float(length_bucket(tokens, self._steps) == item.data["bucket"])
        return {"inside": inside, f"inside_{item.data['bucket']}": inside, "tokens": float(tokens)}


def _asked(item: Item, bucket: str) -> Item:
    return Item(
        id=f"{item.id}/{bucket}",
        messages=item.messages,
        markers={BUCKET: bucket},
        labels=item.labels,
        group=item.group or item.id,
        data={"bucket": bucket, "lang": item.data.get("lang")},
    )
