"""The command `tailmark generate`: an answer, and apart from it the markers the model wrote."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tailmark.errors import TaxonomyError
from tailmark.generate.decode import Answer, Request, generate
from tailmark.generate.loading import LoadedModel, load_model
from tailmark.taxonomy import MarkerList


def run(prompt: str, markers: Sequence[str], model: Path, *, max_new_tokens: int, system: str | None = None, as_json: bool = False) -> None:
    """Answer one prompt and print the answer; `markers` holds texts such as `lang=French`.

    Raises:
        ModelError: the folder is not a model that tailmark trained.
        TaxonomyError: a marker or value is not one of the model's.
    """
    loaded = load_model(model)
    wanted = read_markers(loaded, markers)
    messages = [{"role": "system", "content": system}] if system else []
    request = Request([*messages, {"role": "user", "content": prompt}], wanted or None)
    answer = generate(loaded, [request], max_new_tokens=max_new_tokens, batch_size=1)[0]
    if as_json:
        print(json.dumps(_content(answer, wanted), ensure_ascii=False, indent=2))
    else:
        _show(answer, wanted)


def read_markers(loaded: LoadedModel, texts: Sequence[str]) -> MarkerList:
    """Markers from texts such as `lang=French`, checked against what the model was trained with.

    Raises:
        TaxonomyError: not of that form, given twice, or not one of the model's markers and values.
    """
    values = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise TaxonomyError(
                f"'{text.strip()}' is not a marker with its value.",
                where="--markers",
                fix="write name=value, e.g. lang=French,length_tokens=60",
            )
        if name in values:
            raise TaxonomyError(f"Marker '{name}' is given twice.", where="--markers", fix="give each marker once")
        _require_known(loaded, name)
        values[name] = _typed(loaded, name, value)
    return MarkerList(values)


def _require_known(loaded: LoadedModel, name: str) -> None:
    known = loaded.info.markers
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    trained = (
        f"this model was trained with: {', '.join(known)}"
        if known
        else "this model was trained without markers (the baseline): use models/marked"
    )
    raise TaxonomyError(
        f"'{name}' is not a marker of this model.",
        where=str(loaded.folder),
        fix=f"did you mean '{near[0]}'? {trained}" if near else trained,
    )


def _typed(loaded: LoadedModel, name: str, value: str) -> str | int | float:
    try:
        return loaded.taxonomy.typed(name, value)
    except TaxonomyError as error:
        near = difflib.get_close_matches(value, loaded.taxonomy.spec(name).values, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise TaxonomyError(error.what, where="--markers", fix=f"{hint}{error.fix}") from None


def _content(answer: Answer, wanted: MarkerList) -> dict[str, object]:
    return {
        "answer": answer.text,
        "markers": answer.markers,
        "markers_asked": dict(wanted),
        "tokens": answer.tokens,
        "list_closed": answer.closed,
        "finished": answer.finished,
    }


def _show(answer: Answer, wanted: MarkerList) -> None:
    """The answer on stdout; everything about it on stderr, so that a pipe gets the answer alone."""
    print(answer.text, flush=True)
    console = Console(stderr=True, highlight=False)
    console.print()
    if answer.listed:
        table = Table("marker", "asked", "the model wrote", box=None, padding=(0, 3, 0, 0), header_style="bold")
        for name in sorted({*answer.markers, *wanted}):
            table.add_row(name, str(wanted.get(name, "")), answer.markers.get(name, ""))
        console.print(table)
    else:
        console.print("The model wrote no markers.")
    if not answer.closed:
        console.print("The marker list was not closed, so there is no answer: the model is undertrained, or markers do not fit the prompt.")
    elif not answer.finished:
        console.print("The answer was cut off: --max-new-tokens allows for a longer one.")
