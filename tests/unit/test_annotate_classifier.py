"""The classifier: trained on labelled rows, calibrated on others, silent where it is not sure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailmark.annotate import passes, stage
from tailmark.annotate.classifier.model import best_temperature, calibration_error, features, fit, softmax
from tailmark.config import Config
from tailmark.errors import DataError, TaxonomyError
from tailmark.files import read_json, sha256_tree
from tailmark.layout import Layout
from tailmark.records import RECORD, read_rows, record_id, write_shards

PAPER = Path(__file__).resolve().parents[2] / "src" / "tailmark" / "taxonomy" / "paper.yaml"

WORDS = {
    "Medical": ["fever", "dose", "vaccine", "nurse", "surgery", "symptom", "clinic", "patient"],
    "Finance": ["loan", "invest", "bank", "budget", "interest", "stock", "savings", "tax"],
    "Legal": ["court", "contract", "judge", "lawsuit", "tenant", "statute", "appeal", "police"],
}


def record(number: int, prompt: str, split: str = "train", **markers: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}]
    completion = f"This is the answer of number {number}."
    return {
        "id": record_id(messages, completion), "prompt": messages, "completion": completion, "source_name": "test", "license": "MIT",
        "split": split, "metadata": {f"marker.{name}": value for name, value in {"lang": "English", **markers}.items()},
    }  # fmt: skip


def sentence(value: str, number: int) -> str:
    words = WORDS[value]
    return f"Question {number}: what does the {words[number % 8]} do with the {words[(number * 3 + 1) % 8]} in case {number}?"


def rows(labelled: int = 60) -> list[dict[str, Any]]:
    """Labelled rows of three domains, one in five held out, and rows without a label: of each domain, and one of none."""
    made = [
        record(number, sentence(value, number), "heldout" if number % 5 == 0 else "train", domain=value)
        for value in WORDS
        for number in range(labelled)
    ]
    made += [record(1_000 + place, sentence(value, 997)) for place, value in enumerate(WORDS)]
    return [*made, record(2_000, "Zyx qwv plk.")]


def run(root: Path, records: list[dict[str, Any]], workers: int = 1, **options: Any) -> Layout:
    layout = Layout(root)
    plain = [row | {"metadata": sorted(row["metadata"].items())} for row in sorted(records, key=lambda row: row["id"])]
    write_shards(layout.ingested / "rows", plain, RECORD)
    chosen = {"markers": ["domain"], "threshold": 0.6, **options}
    config = {"taxonomy": {"file": str(PAPER)}, "annotate": {"workers": workers, "classifier": chosen}}
    stage.run(Config.model_validate(config), layout)
    return layout


def by_prompt(layout: Layout) -> dict[str, dict[str, Any]]:
    return {row["prompt"][0]["content"]: row for row in read_rows(layout.annotated / "rows")}


def test_rows_without_a_label_get_one_where_it_is_sure(tmp_path: Path) -> None:
    found = by_prompt(run(tmp_path, rows()))
    for value in WORDS:
        row = found[sentence(value, 997)]
        assert (row["markers"]["domain"], row["origin"]["domain"]) == (value, "classifier")
        assert 0.6 <= row["confidence"]["domain"] <= 1
    assert found["Zyx qwv plk."]["markers"]["domain"] is None
    labelled = found[sentence("Legal", 3)]
    assert (labelled["markers"]["domain"], labelled["origin"]["domain"]) == ("Legal", "dataset")


def test_the_report_says_how_often_it_is_right(tmp_path: Path) -> None:
    report = read_json(run(tmp_path, rows()).annotated / "report.json")
    told = report["classifier"]["domain"]
    assert told["heldout"]["rows"] == 36
    assert told["training_rows"] + told["new_prompts"]["rows"] == 144
    assert told["heldout"]["accuracy"] > 0.9
    assert {value: item["rows"] for value, item in told["heldout"]["values"].items()} == dict.fromkeys(WORDS, 12)
    assert 0 <= told["heldout"]["calibration_error"] <= 1
    assert told["heldout"]["answered"] == sum(item["answered"] for item in told["heldout"]["values"].values())
    assert report["markers"]["domain"]["origins"]["classifier"] > 0


def test_nothing_is_given_below_the_threshold(tmp_path: Path) -> None:
    layout = run(tmp_path, rows(), threshold=1.0)
    assert {row["origin"]["domain"] for row in read_rows(layout.annotated / "rows")} <= {"dataset", None, "classifier"}
    assert by_prompt(layout)["Zyx qwv plk."]["markers"]["domain"] is None


def test_the_number_of_processes_does_not_change_a_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "_FEW", 1)
    monkeypatch.setattr(passes, "SLICE", 40)
    digests = [sha256_tree(run(tmp_path, rows(), workers).annotated) for workers in (1, 2)]
    assert digests[0] == digests[1]


def test_too_few_labelled_rows_are_an_error_that_names_the_counts(tmp_path: Path) -> None:
    few = [row for row in rows() if row["metadata"].get("marker.domain") != "Legal"][:70]
    with pytest.raises(DataError, match=r"Too few labelled training rows .* 'domain': Finance \d+, Medical \d+; two values") as error:
        run(tmp_path, few, min_rows=50)
    assert "min_rows" in str(error.value.fix)
    assert not (tmp_path / "data" / "annotated").exists()


def test_a_marker_that_no_row_states_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="classifier of 'style': no row at all"):
        run(tmp_path, rows(), markers=["style"])


def test_a_value_with_too_few_rows_is_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    extra = [record(3_000 + number, f"Integrate x^{number}.", domain="Math") for number in range(3)]
    layout = run(tmp_path, [*rows(), *extra])
    assert "never given: Math 3" in capsys.readouterr().out
    assert read_json(layout.annotated / "report.json")["classifier"]["domain"]["too_few_rows"] == {"Math": 3}


@pytest.mark.parametrize(("marker", "error"), [("mood", TaxonomyError), ("length_tokens", DataError)])
def test_a_marker_that_cannot_be_classified(tmp_path: Path, marker: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=marker):
        run(tmp_path, rows(), markers=[marker])


def test_weights_depend_on_the_rows_alone() -> None:
    texts = [sentence(value, number) for value in WORDS for number in range(20)]
    labels = [value for value in WORDS for _ in range(20)]
    models = [fit(features(texts), labels, tuple(sorted(WORDS))) for _ in range(2)]
    assert np.array_equal(models[0].weights, models[1].weights)
    one_by_one = [models[0].predict(features([text]))[1][0] for text in texts]
    assert one_by_one == models[0].predict(features(texts))[1].tolist()


def test_two_values_are_told_apart_as_three_are() -> None:
    texts = [sentence(value, number) for value in ("Legal", "Finance") for number in range(20)]
    model = fit(features(texts), ["Legal"] * 20 + ["Finance"] * 20, ("Finance", "Legal"))
    assert model.predict(features(texts))[0].tolist() == [1] * 20 + [0] * 20


def test_temperature_undoes_an_exaggeration() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4_000, 3))
    right = np.array([rng.choice(3, p=row) for row in softmax(scores)])
    assert best_temperature(scores * 5, right) == pytest.approx(5, rel=0.15)


def test_scripts_without_blanks_are_read_by_the_character() -> None:
    assert features(["猫在桌子上睡觉"]).nnz == 7


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50))
def test_the_calibration_error_is_a_share(rows: list[tuple[float, bool]]) -> None:
    confidence, right = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    assert 0 <= calibration_error(confidence, right) <= 1
    assert calibration_error(right.astype(float), right) == 0
