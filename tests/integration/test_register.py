"""Registration against a real SQLite store: one version for one model, whole, loadable, nothing pickled."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
from huggingface_hub import ModelCard
from ruamel.yaml import YAML

from tailmark.base.tiny import tiny_model, tiny_tokenizer
from tailmark.chat import control_tokens, marker_template
from tailmark.config import Config, parse_config
from tailmark.errors import DataError, ModelError, TrackingError
from tailmark.files import read_json, write_json
from tailmark.layout import Layout
from tailmark.modelfolder import TAXONOMY, ModelInfo, write_model_info
from tailmark.records import annotated_schema, write_shards
from tailmark.register import stage
from tailmark.register.card import description
from tailmark.taxonomy import load_taxonomy
from tailmark.tracking import store_uri

ROOT = Path(__file__).resolve().parents[2]
PAPER = ROOT / "src" / "tailmark" / "taxonomy" / "paper.yaml"
LIFT = {"lift": 0.2, "low": 0.1, "high": 0.3, "baseline": 2.0, "marked": 1.8, "p": 0.01, "n": 40}
METRICS = {
    "rows": {"heldout": 40, "heldout_tail": 9, "train": 160},
    "inference": {"lang": {"accuracy": 0.9, "low": 0.8, "high": 0.95, "majority": 0.5, "written": 40, "n": 40}},
    "likelihood": {"nll": {"fixed": {"all": LIFT, "tail": LIFT}}},
}


def make_config(**register: str) -> Config:
    return parse_config({"taxonomy": {"file": str(PAPER)}, "register": register, "base": {"source": "random:tiny"}}, Path("params.yaml"))


def make_model(folder: Path, seed: int = 1) -> None:
    tokenizer = tiny_tokenizer()
    model = tiny_model(tokenizer, seed)
    tokenizer.chat_template = marker_template(tokenizer.chat_template, control=control_tokens(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / TAXONOMY).write_bytes(PAPER.read_bytes())
    digest = load_taxonomy(PAPER).digest
    markers = ("lang", "length_tokens")
    info = ModelInfo(
        arm="marked", markers=markers, placement="both", dataset_dropout=0.5, sample_dropout=0.5, taxonomy=digest, base="random:tiny"
    )
    write_model_info(folder, info)


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    layout = Layout(tmp_path)
    make_model(layout.trained("marked"))
    write_json(layout.evaluated / "metrics.json", METRICS)
    (layout.evaluated / "report.html").write_text("<html></html>")
    write_json(layout.training_report("marked") / "metrics.json", {"loss": 1.5, "steps": 10})
    ingested = {"splits": {"train": 160, "heldout": 40}, "licenses": {"MIT": 200}, "identity": {"duplicates": 3}}
    write_json(layout.ingested / "report.json", ingested)
    return layout


def write_scored_rows(layout: Layout) -> None:
    """Annotated training rows whose scores are 0.00 to 1.00, all in the best bucket."""
    taxonomy = load_taxonomy(PAPER)
    unknown = dict.fromkeys(taxonomy.markers)
    rows = [
        {
            **dict.fromkeys(("completion", "source_name", "license"), "x"),
            "id": f"{number:032x}",
            "split": "train",
            "prompt": [{"role": "user", "content": "x"}],
            "metadata": {},
            "markers": {**unknown, "quality": number / 100, "quality_bucket": "1", "lang": "French"},
            "origin": unknown,
            "confidence": unknown,
        }
        for number in range(101)
    ]
    write_shards(layout.annotated / "rows", rows, annotated_schema(taxonomy))


def client_of(config: Config, layout: Layout) -> mlflow.MlflowClient:
    uri = store_uri(config, layout)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    return mlflow.MlflowClient(uri, uri)


def test_registered_once_loadable_and_whole(layout: Layout) -> None:
    config = make_config()
    stage.run(config, layout)
    first = read_json(layout.registered / "result.json")
    stage.run(config, layout)
    assert read_json(layout.registered / "result.json") == first

    client = client_of(config, layout)
    versions = client.search_model_versions("name = 'tailmark'")
    assert [str(version.version) for version in versions] == [first["version"]]
    assert str(client.get_model_version_by_alias("tailmark", "challenger").version) == first["version"]
    assert versions[0].tags["model_digest"] == first["model"]
    assert "+0.100 to +0.300" in versions[0].description

    folder = Path(mlflow.artifacts.download_artifacts(artifact_uri="models:/tailmark@challenger"))
    assert (folder / "artifacts" / "evidence" / "evaluation.json").exists()
    card = (folder / "artifacts" / "README.md").read_text()
    assert card.startswith("---\n")
    assert description(card) == versions[0].description
    assert not [path for path in folder.rglob("*") if path.suffix in (".pkl", ".bin", ".pt", ".pyc")]

    model = mlflow.pyfunc.load_model("models:/tailmark@challenger")
    asked = [{"messages": [{"role": "user", "content": "Good morning"}]}]
    answers = model.predict(asked, params={"markers": "lang=French", "max_new_tokens": 4})
    assert set(answers[0]) == {"answer", "markers"}
    assert "MARKER_LIST" not in answers[0]["answer"]
    with pytest.raises(Exception, match="not a marker of this model"):
        model.predict(asked, params={"markers": "mood=sad"})


def test_another_model_is_another_version_and_takes_the_alias(layout: Layout) -> None:
    config = make_config(model_name="other", alias="candidate")
    stage.run(config, layout)
    make_model(layout.trained("marked"), seed=2)
    stage.run(config, layout)
    assert read_json(layout.registered / "result.json")["version"] == "2"
    assert str(client_of(config, layout).get_model_version_by_alias("other", "candidate").version) == "2"


def test_a_version_whose_files_were_damaged_is_not_taken_for_whole(layout: Layout) -> None:
    config = make_config()
    stage.run(config, layout)
    client_of(config, layout)
    stored = Path(mlflow.artifacts.download_artifacts(artifact_uri="models:/tailmark@challenger")) / "artifacts" / "marked" / "config.json"
    stored.write_text(stored.read_text() + " ")
    stage.run(config, layout)
    assert read_json(layout.registered / "result.json")["version"] == "2"


def test_a_changed_model_file_is_refused_before_anything_is_registered(layout: Layout) -> None:
    with (layout.trained("marked") / "config.json").open("a") as file:
        file.write(" ")
    with pytest.raises(ModelError, match=r"config\.json"):
        stage.run(make_config(), layout)
    assert not layout.registered.exists()


def test_missing_evidence_is_named(layout: Layout) -> None:
    (layout.evaluated / "metrics.json").unlink()
    with pytest.raises(DataError, match=r"dvc repro evaluate"):
        stage.run(make_config(), layout)


def test_a_store_that_is_away_is_an_error_here(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError, match="could not be registered"):
        stage.run(make_config(), layout)
    assert not layout.registered.exists()


def test_the_card_has_front_matter_and_no_placeholder(layout: Layout) -> None:
    config = make_config()
    write_json(layout.annotated / "report.json", {"markers": {"lang": {"values": {"French": 3, "English": 9, "German": 0}}}})
    write_scored_rows(layout)
    stage.run(config, layout)
    stored = Path(mlflow.artifacts.download_artifacts(artifact_uri="models:/tailmark@challenger/artifacts/README.md"))
    card = stored.read_text()
    data = ModelCard(card).data
    assert (data.language, data.library_name, data.pipeline_tag) == (["en", "fr"], "transformers", "text-generation")
    assert {(result.dataset_name, result.metric_type, result.metric_value) for result in data.eval_results} == {
        ("held-out rows, all", "likelihood-nll", 1.8),
        ("held-out rows, tail", "likelihood-nll", 1.8),
    }
    assert "bucket 1: 0.95" in card
    assert YAML(typ="safe").load(card.partition("```yaml\n")[2].partition("```")[0])["base"]["source"] == "random:tiny"
    assert "Rows: 40 heldout, 160 train. Left out: 3 duplicates." in card
    assert "| lang | accuracy | 0.900 | 0.800 to 0.950 | 40 |" in card
    assert not [word for word in ("TODO", "None", "nan", 'f"') if word in card]
