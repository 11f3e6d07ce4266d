"""The ways in which a marked model is asked: the paper's, three of ours, and a control."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum

from tailmark.errors import TaxonomyError
from tailmark.files import sha256_json
from tailmark.generate.request import Request
from tailmark.taxonomy import MarkerValue, Taxonomy

Markers = Mapping[str, MarkerValue]
Messages = Sequence[Mapping[str, str]]
Tagger = Callable[[Sequence[Messages]], Sequence[Markers]]
"""Reads prompts; gives for each the markers that its answer should have (on the fly: another model or a classifier)."""


class Mode(StrEnum):
    """How the markers come into a request. The docstring of each says what stands in the prompt and what the completion's list holds."""

    ABSENT = "absent"
    """No markers at all: none in the prompt, and the model may not write a list."""

    INFERRED = "inferred"
    """The prompt as it is; the model writes its own list (paper)."""

    FIXED = "fixed"
    """Given markers in the prompt, any subset; the model writes its list (paper)."""

    FORCED = "forced"
    """As fixed, and the given markers also stand in the completion's list, at their places; the model fills in the others."""

    ON_THE_FLY = "on-the-fly"
    """As fixed, with markers that a tagger read from the prompt (paper)."""

    WRONG = "wrong"
    """As fixed, with values of other requests: the control. A lift that stays has nothing to do with what the markers say."""


def requests_for(
    mode: Mode,
    prompts: Sequence[Messages],
    *,
    markers: Sequence[Markers] | None = None,
    tagger: Tagger | None = None,
    constrained: bool = False,
    seed: int = 0,
) -> list[Request]:
    """One request per prompt, as the mode asks.

    Args:
        prompts: messages, the last one the user's.
        markers: per prompt those that are given (fixed, forced) or shuffled (wrong).
        tagger: reads the prompts (on the fly).
        constrained: hold the lists that the model writes to the taxonomy; forced lists always are, since given markers have their place
            among the others.
        seed: of the shuffling.
    """
    bare = [Request(messages, listing="constrained" if constrained else "free") for messages in prompts]
    if mode is Mode.ABSENT:
        return [replace(request, listing="absent") for request in bare]
    if mode is Mode.INFERRED:
        return bare
    if mode is Mode.ON_THE_FLY:
        if tagger is None:
            raise ValueError("on the fly needs a tagger")
        given: Sequence[Markers] = tagger(prompts)
    elif markers is None:
        raise ValueError(f"mode {mode} needs markers")
    else:
        given = (
            shuffled(markers, [sha256_json([dict(turn) for turn in messages]) for messages in prompts], seed)
            if mode is Mode.WRONG
            else markers
        )
    asked = [replace(request, markers=dict(item)) for request, item in zip(bare, given, strict=True)]
    if mode is Mode.FORCED:
        return [replace(request, listing="constrained", written=dict(request.markers or {})) for request in asked]
    return asked


def shuffled(markers: Sequence[Markers], keys: Sequence[str], seed: int) -> list[dict[str, MarkerValue]]:
    """Per request its markers with values of other requests: which markers it has stays, and no value is its own where that is possible.

    Requests are put in order of their values, and equal ones of a hash of (seed, marker, key). Each takes the value half the requests away
    (or the largest group of equal values, if that is more), which leaves as few equal as can be.
    """
    result: list[dict[str, MarkerValue]] = [{} for _ in markers]
    for name in sorted({name for item in markers for name in item}):
        places = [place for place, item in enumerate(markers) if name in item]
        places.sort(key=lambda place: (_order(markers[place][name]), sha256_json([seed, name, keys[place]])))
        values = [markers[place][name] for place in places]
        step = max(len(values) // 2, *Counter(values).values())
        for position, place in enumerate(places):
            result[place][name] = values[(position + step) % len(values)]
    return result


def _order(value: MarkerValue) -> tuple[float, str]:
    return (0.0, value) if isinstance(value, str) else (float(value), "")


def check_markers(
    markers: Mapping[str, str | MarkerValue], taxonomy: Taxonomy, known: Sequence[str], *, where: str
) -> dict[str, MarkerValue]:
    """Markers with values of their marker's type.

    Args:
        markers: values as text or already typed.
        known: the markers that the model was trained with.
        where: the option they come from, for errors.

    Raises:
        TaxonomyError: a marker or value is not one of the model's; the error names the nearest.
    """
    return {name: _checked(name, value, taxonomy, known, where) for name, value in markers.items()}


def _checked(name: str, value: str | MarkerValue, taxonomy: Taxonomy, known: Sequence[str], where: str) -> MarkerValue:
    if name not in known:
        trained = (
            f"this model was trained with: {', '.join(known)}"
            if known
            else "this model was trained without markers (the baseline): use models/marked"
        )
        raise TaxonomyError(f"'{name}' is not a marker of this model.", where=where, fix=_nearest(name, known) + trained)
    try:
        return taxonomy.typed(name, str(value))
    except TaxonomyError as error:
        raise TaxonomyError(error.what, where=where, fix=_nearest(str(value), taxonomy.spec(name).values) + (error.fix or "")) from None


def _nearest(text: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(text, list(known), n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'? " if near else ""
