"""A trained model says what it is, and notices when it was changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tailmark.errors import ModelError
from tailmark.modelfolder import MODEL_INFO, ModelInfo, forget_origin, read_model_info, write_model_info

INFO = ModelInfo(
    arm="marked",
    markers=("domain", "lang"),
    placement="both",
    dataset_dropout=0.5,
    sample_dropout=0.5,
    taxonomy="abc",
    base="random:tiny",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "sub" / "more.json").write_text("{}")
    write_model_info(tmp_path, INFO)
    return tmp_path


def test_round_trip(folder: Path) -> None:
    info = read_model_info(folder, verify=True)
    assert info.model_copy(update={"files": {}}) == INFO
    assert sorted(info.files) == ["model.safetensors", "sub/more.json"]


def test_writing_again_gives_the_same_bytes(folder: Path) -> None:
    before = (folder / MODEL_INFO).read_bytes()
    write_model_info(folder, INFO)
    assert (folder / MODEL_INFO).read_bytes() == before


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda folder: (folder / "model.safetensors").write_bytes(b"weight5"), "'model.safetensors' has changed"),
        (lambda folder: (folder / "sub" / "more.json").unlink(), "'sub/more.json' is missing"),
        (lambda folder: (folder / "new.bin").write_bytes(b""), "'new.bin' was added later"),
    ],
)
def test_a_changed_folder_is_noticed(folder: Path, change: object, what: str) -> None:
    assert callable(change)
    change(folder)
    read_model_info(folder)
    with pytest.raises(ModelError, match=what):
        read_model_info(folder, verify=True)


def test_a_foreign_or_missing_folder_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="no such model folder"):
        read_model_info(folder / "none")
    (folder / MODEL_INFO).write_text("{}")
    with pytest.raises(ModelError, match="was not written by this version of tailmark"):
        read_model_info(folder)
    (folder / MODEL_INFO).unlink()
    with pytest.raises(ModelError, match="was not written by tailmark"):
        read_model_info(folder)


def test_where_a_model_came_from_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"_name_or_path": "/home/me/model", "hidden_size": 8}))
    forget_origin(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == {"hidden_size": 8}
