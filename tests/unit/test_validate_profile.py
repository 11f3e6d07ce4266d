"""Distributions, their distance, and the accepted version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailmark.config import Config
from tailmark.errors import DataError, ValidationFailed
from tailmark.files import read_json, write_json
from tailmark.layout import Layout
from tailmark.taxonomy import Taxonomy
from tailmark.validate.accept import accept, accepted_path
from tailmark.validate.profile import distance, distances, make_profile, read_accepted, shares

TAXONOMY = Taxonomy.model_validate(
    {
        "name": "two",
        "markers": {
            "mood": {"kind": "categorical", "definition": "Mood.", "values": {"calm": "Calm.", "loud": "Loud.", "odd": "Odd."}},
            "size": {"kind": "integer", "definition": "Size."},
        },
    }
)
SHARES = st.dictionaries(st.sampled_from("abcdef"), st.floats(0.01, 1), min_size=1).map(
    lambda found: {name: value / sum(found.values()) for name, value in found.items()}
)


def frame(moods: list[str | None], sizes: list[float | None]) -> pd.DataFrame:
    split = ["heldout" if number % 10 == 0 else "train" for number in range(len(moods))]
    return pd.DataFrame(
        {"split": pd.Categorical(split), "markers.mood": pd.Categorical(moods), "markers.size": pd.array(sizes, dtype="Int64")}
    )


def profile(moods: list[str | None], sizes: list[float | None], accepted: Any = None) -> dict[str, Any]:
    return make_profile(frame(moods, sizes), TAXONOMY, accepted)


def test_a_profile_counts_every_row_once() -> None:
    found = profile(["calm"] * 15 + ["loud"] * 4 + [None], [*range(19), None])
    assert found["rows"] == {"train": 18, "heldout": 2}
    assert found["markers"]["mood"]["values"] == {"calm": {"train": 13, "heldout": 2}, "loud": {"train": 4, "heldout": 0}}
    assert found["markers"]["mood"]["missing"] == {"train": 1, "heldout": 0}
    size = found["markers"]["size"]
    assert sum(sum(counts) for counts in size["counts"].values()) + sum(size["missing"].values()) == 20
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize("name", ["mood", "size"])
def test_shares_sum_to_one(name: str) -> None:
    found = profile(["calm"] * 15 + ["loud"] * 4 + [None], [*range(19), None])
    assert sum(shares(found["markers"][name]).values()) == pytest.approx(1)


@given(SHARES, SHARES)
def test_the_distance_is_a_distance(first: dict[str, float], second: dict[str, float]) -> None:
    assert distance(first, first) == 0
    assert distance(first, second) == distance(second, first)
    assert 0 <= distance(first, second) <= 1


def test_the_distance_of_known_distributions() -> None:
    assert distance({"a": 1.0}, {"b": 1.0}) == 1
    assert distance({"a": 0.5, "b": 0.5}, {"a": 1.0}) == pytest.approx(0.558, abs=1e-3)


def test_what_did_not_move_has_no_distance_whatever_its_bins() -> None:
    first = profile(["calm"] * 90 + ["loud"] * 10, list(range(100)))
    again = profile(["calm"] * 90 + ["loud"] * 10, list(range(100)), accepted=first)
    assert distances(again, first) == {"mood": 0, "size": 0}


def test_a_shift_shows_in_the_marker_that_shifted() -> None:
    first = profile(["calm"] * 90 + ["loud"] * 10, list(range(100)))
    moods = profile(["calm"] * 40 + ["loud"] * 60, list(range(100)), accepted=first)
    sizes = profile(["calm"] * 90 + ["loud"] * 10, [number + 60 for number in range(100)], accepted=first)
    assert distances(moods, first)["mood"] > 0.3
    assert distances(moods, first)["size"] == 0
    assert distances(sizes, first)["size"] > 0.3
    assert distances(sizes, first)["mood"] == 0


def test_a_marker_that_went_missing_drifts() -> None:
    first = profile(["calm"] * 100, list(range(100)))
    gone = profile([None] * 50 + ["calm"] * 50, [None] * 100, accepted=first)
    assert distances(gone, first)["mood"] > 0.5
    assert distances(gone, first)["size"] == 1


def test_sampling_alone_stays_below_the_default() -> None:
    random = np.random.default_rng(0)
    draw = [random.choice(["calm", "loud", "odd"], 800, p=[0.7, 0.25, 0.05]).tolist() for _ in range(2)]
    first = profile(draw[0], list(range(800)))
    assert distances(profile(draw[1], list(range(800)), accepted=first), first)["mood"] < Config().validate_.max_drift / 2


# Accepting


@pytest.fixture
def validated(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    write_json(layout.validated / "profile.json", profile(["calm"] * 20, list(range(20))))
    write_json(layout.validated / "result.json", {"failed": {"stop": [], "warn": ["drift.mood"]}})
    return layout


def test_accepting_copies_the_profile(validated: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    assert read_accepted(accepted_path(Config(), validated)) is None
    accept(Config(), validated)
    path = validated.root / "accepted" / "demo.json"
    assert read_json(path) == read_json(validated.validated / "profile.json")
    assert read_accepted(accepted_path(Config(), validated)) == read_json(path)
    assert "accepted/demo.json" in capsys.readouterr().out


def test_each_profile_of_options_has_its_own(validated: Layout) -> None:
    assert accepted_path(Config(profile="bench"), validated).name == "bench.json"


def test_what_drift_alone_stopped_can_be_accepted(validated: Layout) -> None:
    aside = validated.state / "validation-failed"
    write_json(aside / "profile.json", profile(["loud"] * 20, list(range(20))))
    write_json(aside / "result.json", {"failed": {"stop": ["drift.mood"], "warn": []}})
    accept(Config(), validated)
    assert "loud" in read_json(accepted_path(Config(), validated))["markers"]["mood"]["values"]


def test_what_something_else_stopped_cannot(validated: Layout) -> None:
    aside = validated.state / "validation-failed"
    write_json(aside / "profile.json", {})
    write_json(aside / "result.json", {"failed": {"stop": ["drift.mood", "values.lang"], "warn": []}})
    with pytest.raises(ValidationFailed, match=r"values\.lang"):
        accept(Config(), validated)
    assert not accepted_path(Config(), validated).exists()


def test_nothing_to_accept(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="dvc repro validate"):
        accept(Config(), Layout(tmp_path))


@pytest.mark.parametrize("text", ["{", "[]", '{"rows": 3}'])
def test_a_damaged_accepted_profile_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "demo.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"demo\.json"):
        read_accepted(path)
