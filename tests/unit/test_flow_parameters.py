"""What a run can be asked for: the form, the command line, the options that are checked before anything runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

import flows  # noqa: F401 - sets what Prefect reads when it is imported
from tailmark.config import load_config
from tailmark.errors import ConfigError
from tailmark.profiles import override, use_profile
from tasks.parameters import AS_COMMITTED, Request

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["pipeline", "sweep", "refresh"])
def test_every_parameter_of_the_form_is_explained_and_has_a_default(name: str) -> None:
    from flows.pipeline import pipeline
    from flows.refresh import refresh
    from flows.sweep import sweep

    schema = {"pipeline": pipeline, "sweep": sweep, "refresh": refresh}[name].parameters
    assert schema.required == []
    assert [key for key, item in schema.properties.items() if not item.get("description")] == []


def test_the_form_offers_profiles_stages_and_what_to_do_with_changes() -> None:
    from flows.pipeline import pipeline

    form = pipeline.parameters.properties
    assert form["profile"]["enum"] == [AS_COMMITTED, *sorted(path.stem for path in (ROOT / "params").glob("*.yaml"))]
    assert {"ingest", "train@marked", "register"} <= set(form["targets"]["items"]["enum"])
    assert form["uncommitted"]["enum"] == ["refuse", "include", "ignore"]
    assert form["workspace"]["default"] == "worktree"


def test_the_request_takes_what_the_flow_takes() -> None:
    from flows.pipeline import pipeline

    assert set(pipeline.parameters.properties) == set(Request.model_fields)
    with pytest.raises(ValidationError):
        Request(jobs=0)


def test_the_command_line_defaults_to_this_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.options import parse

    monkeypatch.chdir(tmp_path)
    request, name = parse([])
    assert (request.workspace, request.jobs, request.retries, request.root, name) == ("checkout", 1, 0, tmp_path, None)
    request, _ = parse(["--worktree", "--set", "seed=3", "--set", "prepare.epochs=2", "--target", "evaluate"])
    assert (request.workspace, request.retries, request.overrides, request.targets) == (
        "worktree", 2, ("seed=3", "prepare.epochs=2"), ("evaluate",),
    )  # fmt: skip


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "params").symlink_to(ROOT / "params")
    use_profile(tmp_path, "tiny")
    return tmp_path


def test_overrides_are_yaml_and_reach_into_sections_that_are_off(checkout: Path) -> None:
    override(
        checkout,
        [
            "prepare.dataset_dropout=0.7",
            "prepare.markers=[domain, lang]",
            "train.lora.rank=4",
            "validate.min_completeness.lang=0.5",
            "seed = 3",
        ],
    )
    config = load_config(checkout / "params.yaml")
    assert (config.prepare.dataset_dropout, config.prepare.markers, config.seed) == (0.7, ("domain", "lang"), 3)
    assert config.train.lora is not None
    assert config.train.lora.rank == 4
    assert config.validate_.min_completeness["lang"] == 0.5
    assert config.prepare.rows_per_step == 16, "the others stay"


def test_no_override_leaves_the_file_alone(checkout: Path) -> None:
    before = (checkout / "params.yaml").read_bytes()
    override(checkout, [])
    assert (checkout / "params.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("prepare.dataset_droput=0.7", "did you mean 'dataset_dropout'"),
        ("prepare.dataset_dropout=7", "cannot be 7"),
        ("prepare.dataset_dropout", "sets no option"),
        ("=3", "sets no option"),
        ("prepare.markers=[domain", "no YAML"),
    ],
)
def test_a_wrong_override_changes_nothing(checkout: Path, assignment: str, said: str) -> None:
    before = (checkout / "params.yaml").read_bytes()
    with pytest.raises(ConfigError, match="fix:") as caught:
        override(checkout, ["seed=3", assignment])
    assert said in str(caught.value)
    assert (checkout / "params.yaml").read_bytes() == before


def test_the_ready_made_sweeps_are_possible(tmp_path: Path) -> None:
    """Each member's options, on the demo's."""
    from tasks.sweepfile import _grid, read_sweep

    for path in sorted((ROOT / "sweeps").glob("*.yaml")):
        sweep = read_sweep(path)
        for options in {**_grid(sweep), **sweep.members}.values():
            (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
            override(tmp_path, [f"{name}={json.dumps(value)}" for name, value in {**sweep.shared, **options}.items()])
    dropout = YAML(typ="safe").load((ROOT / "sweeps" / "dropout.yaml").read_text())["members"]
    assert {"0_50", "50_50", "70_50"} <= set(dropout)
    assert dropout["70_50"] == {"prepare.dataset_dropout": 0.7, "prepare.sample_dropout": 0.5}
