"""A trained model's own description, `tailmark.json`: training writes it last, generation, evaluation and registration read it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from tailmark.errors import ModelError
from tailmark.files import read_json, sha256_file, write_json, write_text
from tailmark.taxonomy import ListForm, Rendering

MODEL_INFO = "tailmark.json"
TAXONOMY = "taxonomy.yaml"
MARKER_USE = "markers.json"
"""Beside the packs: a `MarkerUse`."""


class MarkerUse(BaseModel):
    """What an arm's training rows show of markers: preparation writes it beside the packs, training hands it on.

    Attributes:
        arm: `marked`, or `baseline` (the same data, steps and seed without markers, which no dropout and no placement changes).
        markers: names of the markers it is trained with, sorted; empty for the baseline.
        placement: where the list stands in training.
        dataset_dropout, sample_dropout: p and q of the prompt-side list.
        sample_dropout_by_marker: another q of single markers.
        list_dropout: share of the examples without a list on either side.
        rendering, digits: how lists are written, in prompts and in completions.
        taxonomy: digest of the taxonomy.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    arm: Literal["baseline", "marked"]
    markers: tuple[str, ...]
    placement: Literal["both", "prompt", "completion"]
    dataset_dropout: float
    sample_dropout: float
    sample_dropout_by_marker: dict[str, float] = {}
    list_dropout: float = 0.0
    rendering: Rendering = "text"
    digits: dict[str, int] = {}
    taxonomy: str

    @property
    def form(self) -> ListForm:
        """How its lists are written."""
        return ListForm(self.rendering, self.digits)


class ModelInfo(MarkerUse):
    """What a trained model is.

    Attributes:
        base: the base model's source, as in `base.source`.
        files: sha256 of every other file of the folder, by relative path.
    """

    base: str
    files: dict[str, str] = {}

    @property
    def reads_markers(self) -> bool:
        """Whether training showed it lists in prompts."""
        return bool(self.markers) and self.placement != "completion"

    @property
    def writes_markers(self) -> bool:
        """Whether training had it begin its answers with a list."""
        return bool(self.markers) and self.placement != "prompt"


_ORIGIN = ("_name_or_path", "_model_name_or_path", "name_or_path", "is_local", "local_files_only")


def forget_origin(folder: Path) -> None:
    """Take out of a saved model or tokenizer what transformers notes about where it was loaded from: it differs between machines."""
    for path in (folder / "config.json", folder / "tokenizer_config.json"):
        if path.is_file():
            write_json(path, {key: value for key, value in read_json(path).items() if key not in _ORIGIN})


def folder_hashes(folder: Path) -> dict[str, str]:
    """sha256 of every file of a model folder but `tailmark.json`, by relative path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MODEL_INFO)
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in paths}


def write_model_info(folder: Path, info: ModelInfo) -> ModelInfo:
    """Hash the folder's files and write `tailmark.json` beside them, last; returns the info with its hashes."""
    complete = info.model_copy(update={"files": folder_hashes(folder)})
    write_text(folder / MODEL_INFO, complete.model_dump_json(indent=2) + "\n")
    return complete


def read_model_info(folder: Path, *, verify: bool = False) -> ModelInfo:
    """Read `tailmark.json`; `verify` also compares the digest of every file (about 1 s a GB).

    Raises:
        ModelError: the folder is missing or was not written by tailmark; a file is missing, changed or foreign.
    """
    try:
        info = ModelInfo.model_validate_json((folder / MODEL_INFO).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        missing = "There is no such model folder."
        what = "The model folder was not written by tailmark: it has no tailmark.json." if folder.is_dir() else missing
        raise ModelError(what, where=str(folder), fix="give a folder that `tailmark train` wrote, or run `dvc repro`") from None
    except (ValidationError, UnicodeDecodeError) as error:
        raise ModelError(
            f"The model folder was not written by this version of tailmark: {_first(error)}.",
            where=str(folder / MODEL_INFO),
            fix="run `dvc checkout`, or `dvc repro` to train again",
        ) from None
    if verify:
        _verify(folder, info)
    return info


def _first(error: ValidationError | UnicodeDecodeError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
    return "it is not UTF-8"


def _verify(folder: Path, info: ModelInfo) -> None:
    found = folder_hashes(folder)
    for name in sorted(found.keys() | info.files.keys()):
        if found.get(name) != info.files.get(name):
            state = "has changed" if name in found and name in info.files else "is missing" if name in info.files else "was added later"
            raise ModelError(
                f"The model folder is not what was written: '{name}' {state}.",
                where=str(folder / name),
                fix="run `dvc checkout`, or `dvc repro` to train again",
            )
