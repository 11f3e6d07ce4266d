"""The command `tailmark generate`: answers, and apart from them the markers the model wrote."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from tailmark import config, quality, taxonomy
from tailmark.errors import ConfigError, TaxonomyError
from tailmark.generate.loading import LoadedModel, load_model
from tailmark.generate.local import LocalModel
from tailmark.generate.modes import Markers, Messages, Mode, Tagger, check_markers, requests_for
from tailmark.generate.request import Answer, Generator, Request, Sampling
from tailmark.measure.lengths import with_bucket
from tailmark.taxonomy import MarkerList, MarkerValue, Taxonomy


@dataclass(frozen=True)
class Options:
    """What the command line says, apart from the prompts.

    Attributes:
        model: a model folder; with an `endpoint` (its address) the model's name there.
        taxonomy: of an endpoint's model; a folder holds its own.
        markers: texts such as `lang=French`.
        mode: None: fixed where markers are given, by the options or beside any prompt, else inferred.
    """

    model: str
    endpoint: str | None = None
    key_variable: str | None = None
    taxonomy: Path | None = None
    markers: Sequence[str] = ()
    mode: str | None = None
    constrained: bool = False
    system: str | None = None
    max_new_tokens: int = 256
    batch_size: int = 16
    sampling: Sampling = field(default_factory=Sampling)
    stop: tuple[str, ...] = ()


_TAKE_NONE = (Mode.ABSENT, Mode.INFERRED, Mode.ON_THE_FLY)
_OPTIONS = {"base_url": "--endpoint", "model": "--model", "key_variable": "--key-variable"}


class Asking:
    """Makes requests as the options say, for a model whose markers are known.

    Raises:
        ModelError: the folder is not a model that tailmark trained.
        TaxonomyError: the taxonomy is malformed, or a marker or value of the options is not one of the model's.
        ConfigError: there is no such mode, or it needs something that was not given.
    """

    def __init__(self, options: Options, tagger: Tagger | None = None) -> None:
        self.options, self._tagger = options, tagger
        mode = _mode(options.mode) if options.mode else None  # before the model is loaded, which takes a while
        self.given = MarkerList(check_markers(split_markers(options.markers), *self.known, where="--markers"))
        self._mode = mode
        if self.given and mode in _TAKE_NONE:
            raise ConfigError(f"Mode {mode} takes no markers.", where="--markers", fix="leave --markers out, or use fixed or forced")

    @cached_property
    def loaded(self) -> LoadedModel | None:
        """The model of this machine, if it is one."""
        return None if self.options.endpoint else load_model(Path(self.options.model))

    @cached_property
    def known(self) -> tuple[Taxonomy, Sequence[str]]:
        """The taxonomy, and the markers of it that can be asked for."""
        if self.loaded:
            return self.loaded.taxonomy, self.loaded.info.markers
        found = taxonomy.load_taxonomy(self.options.taxonomy or Path(taxonomy.__file__).with_name("paper.yaml"))
        return found, tuple(sorted(found.markers))

    def generator(self, store: Path | None = None) -> Generator:
        """Whoever answers; `store`: where answers are kept as they are made."""
        if self.loaded:
            return LocalModel(self.loaded, batch_size=self.options.batch_size, store=store)
        from tailmark.generate.endpoint import EndpointModel

        assert self.options.endpoint is not None
        try:
            endpoint = config.Endpoint(base_url=self.options.endpoint, model=self.options.model, key_variable=self.options.key_variable)
        except ValidationError as error:
            # What was written may be a key: it is not repeated.
            first = error.errors(include_input=False, include_context=False)[0]
            option = _OPTIONS[str(first["loc"][0])]
            raise ConfigError(f"Option {option} cannot be used.", where=option, fix=str(first["msg"])) from None
        return EndpointModel(endpoint, store=store)

    def requests(self, prompts: Sequence[Messages], markers: Sequence[Markers]) -> list[Request]:
        """One request per prompt; `markers`: those of each prompt, beside which those of the options stand.

        Without a mode prompts with markers are asked in the mode fixed, and those without any as in the mode inferred.
        """
        system = [{"role": "system", "content": self.options.system}] if self.options.system else []
        asked = [self._implied({**self.given, **item}) for item in markers]
        if self._mode in _TAKE_NONE and any(asked):
            fix = "leave `markers` out of the file, or use fixed or forced"
            raise ConfigError(f"Mode {self._mode} takes no markers, and prompts have some.", where="--file", fix=fix)
        if self._mode in (Mode.FIXED, Mode.FORCED) and not all(asked):
            raise ConfigError(f"Mode {self._mode} needs markers.", where="--mode", fix="give --markers, e.g. lang=French,length_tokens=60")
        if self._mode is Mode.WRONG and not any(asked[1:]):
            raise ConfigError(
                "Mode wrong shuffles markers between prompts.", where="--mode", fix="give a file of prompts with markers (--file)"
            )
        if self._mode is Mode.ON_THE_FLY and self._tagger is None:
            raise ConfigError("On the fly needs the options of a checkout.", where="--mode", fix="run in a folder with params.yaml")
        made = requests_for(
            self._mode or (Mode.FIXED if any(asked) else Mode.INFERRED),
            [[*system, *messages] for messages in prompts],
            markers=asked,
            tagger=self._read if self._tagger else None,
            constrained=self.options.constrained,
            seed=self.options.sampling.seed,
        )
        if self._mode is None:
            made = [replace(request, markers=request.markers or None) for request in made]
        return [replace(request, sampling=self.options.sampling, stop=self.options.stop) for request in made]

    def _read(self, prompts: Sequence[Messages]) -> list[Markers]:
        """What the tagger says, as far as the model was trained with it."""
        assert self._tagger is not None
        _, names = self.known
        return [{name: value for name, value in found.items() if name in names} for found in self._tagger(prompts)]

    def _implied(self, markers: Markers) -> Markers:
        """With a length also its bucket, with a bucket of quality also the score that stands for it, as far as a model here knows them."""
        if self.loaded is None:
            return markers
        markers = with_bucket(markers, *self.known)
        if quality.SCORE not in self.known[1] or quality.BUCKET not in markers:
            return markers
        return quality.with_quality(markers, self._percentiles)

    @cached_property
    def _percentiles(self) -> quality.Percentiles:
        return quality.percentiles_of(Path(self.options.model).resolve())


def _mode(name: str) -> Mode:
    if name in list(Mode):
        return Mode(name)
    near = difflib.get_close_matches(name, list(Mode), n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise ConfigError(f"There is no mode '{name}'.", where="--mode", fix=f"{hint}use one of: {', '.join(Mode)}")


def split_markers(texts: Sequence[str]) -> dict[str, str]:
    """Names and values of texts such as `lang=French`.

    Raises:
        TaxonomyError: not of that form, or given twice.
    """
    values: dict[str, str] = {}
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
        values[name] = value
    return values


def read_markers(loaded: LoadedModel, texts: Sequence[str]) -> MarkerList:
    """Markers from texts such as `lang=French`, checked against what the model was trained with.

    Raises:
        TaxonomyError: not of that form, given twice, or not one of the model's markers and values.
    """
    return MarkerList(check_markers(split_markers(texts), loaded.taxonomy, loaded.info.markers, where="--markers"))


def run(prompt: str, options: Options, *, tagger: Tagger | None = None, as_json: bool = False) -> None:
    """Answer one prompt and print the answer.

    Args:
        tagger: reads the prompt's markers where the mode is on-the-fly.
        as_json: print one JSON object.
    """
    asking = Asking(options, tagger)
    request = asking.requests([[{"role": "user", "content": prompt}]], [{}])[0]
    answer = asking.generator().answer([request], max_new_tokens=options.max_new_tokens)[0]
    if as_json:
        print(json.dumps(content(answer, request), ensure_ascii=False, indent=2))
    else:
        _show(answer, request.markers or {})


def content(answer: Answer, request: Request) -> dict[str, object]:
    """An answer as JSON, with the markers that were asked for."""
    return {
        "answer": answer.text,
        "markers": answer.markers,
        "markers_asked": dict(request.markers or {}),
        "tokens": answer.tokens,
        "list_tokens": answer.list_tokens,
        "list_closed": answer.closed,
        "finished": answer.finished,
    }


def _show(answer: Answer, wanted: Mapping[str, MarkerValue]) -> None:
    """The answer on stdout; everything about it on stderr, so that a pipe gets the answer alone."""
    print(answer.text, flush=True)
    console = Console(stderr=True, highlight=False, markup=False)  # values may look like rich's markup
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
