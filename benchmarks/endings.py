"""Does the length marker move where an answer may end? A probe that sees obedience long before answers show it.

    python -m benchmarks.endings --rows 120    # in a checkout, or a member's worktree, with a trained marked arm

Answers are made greedily, so a model that thinks an end somewhat likelier where the length asked for is reached makes the same answer for
any length. Here reference answers are read, not made: after each sentence that ends 10 to 160 tokens into one, the probability that the
answer ends there, under lists that ask for 10, 20, 40, 80 or 160 tokens. The lift is the mean over the lists whose length the text has
reached, less the mean over the others, at the same place (95 % interval over source texts): 0 for a model that pays no heed, near 1 for one
that obeys to the sentence. `asked` has the probabilities by the length asked for and how much of it is there: under half of it, to 80 %, to
125 %, beyond.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch

from benchmarks.probe import run
from tailmark.chat import end_of_turn, render_list, render_prompt, token_ids
from tailmark.evaluate.benchmarks import Bench
from tailmark.evaluate.sample import Row
from tailmark.generate.loading import LoadedModel
from tailmark.logits import head_logits
from tailmark.measure.lengths import measure_lengths, with_bucket
from tailmark.statistics import paired_interval
from tailmark.taxonomy import escape

ASKED = (10, 20, 40, 80, 160)
MARKER, LENGTHS = "length_tokens", "length_"
PARTS = ((0.5, "under half"), (0.8, "to 80 %"), (1.25, "to 125 %"), (float("inf"), "beyond"))


@dataclass(frozen=True)
class Place:
    """The end of a sentence in a reference answer.

    Attributes:
        tokens: that the text then has, as `length_tokens` counts.
        ends: the probability that the answer ends there, by the length asked for.
    """

    group: str
    tokens: int
    ends: dict[int, float]

    @property
    def lift(self) -> float:
        """How much likelier the end is where the length asked for is reached."""
        reached = [chance for asked, chance in self.ends.items() if asked <= self.tokens]
        ahead = [chance for asked, chance in self.ends.items() if asked > self.tokens]
        return fmean(reached) - fmean(ahead)


def places(loaded: LoadedModel, rows: Sequence[Row]) -> Iterator[Place]:
    """The ends of sentences of all rows."""
    for row in rows:
        answer = token_ids(loaded.tokenizer, [escape(row.completion)])[0]
        sizes = _sentence_ends(loaded, answer, row.lang)
        if sizes:
            chances = {asked: _ends(loaded, row, answer, asked) for asked in ASKED}
            yield from (Place(row.group, tokens, {asked: chances[asked][at] for asked in ASKED}) for at, tokens in sizes.items())


def _sentence_ends(loaded: LoadedModel, answer: Sequence[int], lang: str | None) -> dict[int, int]:
    """By the place of a sentence's last token, how many tokens the text then has as `length_tokens` counts; from 10 to 160 only."""
    texts = loaded.tokenizer.batch_decode([[token] for token in answer])
    ends = [at for at, text in enumerate(texts) if text.rstrip(" ").endswith((".", "!", "?"))]
    sizes = {at: measure_lengths(loaded.tokenizer.decode(answer[: at + 1]), lang).tokens for at in ends}
    return {at: tokens for at, tokens in sizes.items() if ASKED[0] <= tokens < ASKED[-1]}


@torch.inference_mode()
def _ends(loaded: LoadedModel, row: Row, answer: Sequence[int], asked: int) -> list[float]:
    """After every token of the answer, how likely its end is; the list holds the row's other markers too, but none that says a length."""
    others = {name: value for name, value in row.markers.items() if not name.startswith(LENGTHS)}
    markers = with_bucket(others | {MARKER: asked}, loaded.taxonomy, loaded.info.markers)
    text = render_prompt(loaded.tokenizer, row.messages, markers) + render_list(markers if loaded.writes_lists else None, loaded.info.form)
    prompt = token_ids(loaded.tokenizer, [text])[0]
    end = token_ids(loaded.tokenizer, [end_of_turn(loaded.tokenizer)])[0][0]
    ids = torch.tensor([[*prompt, *answer]], device=loaded.device)
    states = loaded.model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state[0, len(prompt) :]
    chances: list[float] = head_logits(loaded.model, states).softmax(dim=-1)[:, end].tolist()
    return chances


def summary(found: Sequence[Place]) -> dict[str, object]:
    """The lift with its interval, and the probability of an end by the part of the length asked for that is there."""
    groups = [place.group for place in found]
    lift = paired_interval([place.lift for place in found], resamples=5000, confidence=0.95, seed=0, clusters=groups)
    cells: dict[int, dict[str, list[float]]] = {asked: defaultdict(list) for asked in ASKED}
    for place in found:
        for asked, chance in place.ends.items():
            part = next(name for limit, name in PARTS if place.tokens < limit * asked)
            cells[asked][part].append(chance)
    asked_cells = {str(asked): {part: round(fmean(chances), 3) for part, chances in parts.items()} for asked, parts in cells.items()}
    return {**{key: round(getattr(lift, key), 4) for key in ("mean", "low", "high")}, "places": len(found), "asked": asked_cells}


def measured(bench: Bench, count: int) -> Iterator[dict[str, object]]:
    """The summary of so many held-out rows."""
    rows = bench.draw([row for row in bench.heldout.rows if MARKER in row.markers], count, "endings")
    yield summary(list(places(bench.marked, rows)))


if __name__ == "__main__":
    run(measured, __doc__, rows=120)
