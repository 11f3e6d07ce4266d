"""The whole stage with a random model in the place of both arms: what it writes, and that the same inputs give the same bytes."""

from __future__ import annotations

import copy
import csv
import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from benchmarks import decoding, given, inferred, lists
from tailmark.base import stage as base_stage
from tailmark.chat import marker_template
from tailmark.config import Config
from tailmark.errors import DataError, ModelError
from tailmark.evaluate import stage
from tailmark.evaluate.store import EXAMPLES, read_scores, write_scores
from tailmark.evaluate.table import lift_table, print_lifts, save_lift_png
from tailmark.files import read_json
from tailmark.layout import ARMS, Arm, Layout
from tailmark.modelfolder import ModelInfo, write_model_info
from tailmark.records import annotated_schema, record_id, write_shards
from tailmark.taxonomy import Taxonomy, load_taxonomy

MARKERS = ("domain", "lang", "length_tokens", "task")
TEXTS = {
    "English": "The harbour was quiet in the morning, and the boats stayed where they were until the fog had gone.",
    "French": "Le port restait calme ce matin, et les bateaux attendaient que le brouillard se lève enfin.",
    "German": "Der Hafen blieb am Morgen still, und die Boote warteten, bis der Nebel sich verzogen hatte.",
    "Spanish": "El puerto estaba tranquilo por la mañana y los barcos esperaban a que se fuera la niebla.",
}
DOMAINS = ("Culture", "Technology", "Legal")
TAXONOMY = Path(__file__).parents[2] / "src/tailmark/taxonomy/paper.yaml"


def record(number: int, taxonomy: Taxonomy) -> dict[str, Any]:
    lang = "English" if number % 2 else list(TEXTS)[number % 4]
    domain = "Legal" if number % 25 < 2 else DOMAINS[number % 2]
    words = TEXTS[lang].split()[: 4 + number % 14]
    prompt = [{"role": "user", "content": f"Describe scene {number} of the harbour."}]
    names = sorted(taxonomy.markers)
    values = {"lang": lang, "domain": domain, "task": "CreativeWriting", "length_tokens": len(words)}
    markers = {name: values.get(name) for name in names}
    return {
        "id": record_id(prompt, " ".join(words)),
        "prompt": prompt,
        "completion": " ".join(words),
        "source_name": "harbour",
        "license": "CC0-1.0",
        "split": "heldout" if number % 5 == 0 else "train",
        "metadata": [],
        "markers": markers,
        "origin": dict.fromkeys(names),
        "confidence": dict.fromkeys(names),
    }


def write_arm(layout: Layout, arm: Arm, markers: tuple[str, ...]) -> None:
    from transformers import AutoTokenizer

    folder = layout.trained(arm)
    shutil.copytree(layout.base, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = marker_template(tokenizer.chat_template)
    tokenizer.save_pretrained(folder)
    shutil.copy(TAXONOMY, folder / "taxonomy.yaml")
    digest = load_taxonomy(TAXONOMY).digest
    info = ModelInfo(
        arm=arm, markers=markers, placement="both", dataset_dropout=0.5, sample_dropout=0.5, taxonomy=digest, base="random:tiny"
    )
    write_model_info(folder, info)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Layout]:
    layout = Layout(tmp_path_factory.mktemp("checkout"))
    evaluate = {"likelihood_rows": 24, "control_rows": 8, "max_new_tokens": 40, "resamples": 200, "batch_size": 8, "attribution_rows": 6}
    sections = {"base": {"source": "random:tiny"}, "taxonomy": {"file": str(TAXONOMY)}, "longtail": {"threshold": 0.1}}
    config = Config.model_validate({**sections, "evaluate": evaluate})
    base_stage.run(config, layout)
    write_arm(layout, "baseline", ())
    write_arm(layout, "marked", MARKERS)
    taxonomy = load_taxonomy(TAXONOMY)
    rows = sorted((record(number, taxonomy) for number in range(200)), key=lambda row: str(row["id"]))
    write_shards(layout.annotated / "rows", rows, annotated_schema(taxonomy))
    stage.run(config, layout)
    return config, layout


def hashes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def test_metrics_have_every_benchmark_mode_and_slice(checkout: tuple[Config, Layout]) -> None:
    metrics = read_json(checkout[1].evaluated / "metrics.json")
    assert metrics["rows"]["heldout"] == 40
    assert metrics["rows"]["train"] == 160
    assert metrics["likelihood"]["nll"].keys() == {"inferred", "fixed", "wrong"}
    slices = metrics["likelihood"]["nll"]["fixed"]
    assert slices.keys() >= {"all", "head", "tail", "decile", "domain", "lang", "tail_minus_head", "rarity"}
    assert "task" not in slices  # all rows have the same
    assert metrics["length"]["error"].keys() == {"inferred", "fixed"}
    assert metrics["language"]["pass"].keys() == {"inferred", "fixed"}
    assert metrics["language_alone"]["pass"].keys() == metrics["length_alone"]["error"].keys() == {"fixed"}
    assert metrics["inference"].keys() == set(MARKERS)
    assert metrics["own_markers"]["domain"]["inferred"]["all"]["marked"] == metrics["inference"]["domain"]["accuracy"]
    for entry in (metrics["likelihood"]["nll"]["fixed"]["all"], metrics["length"]["violation"]["fixed"]["all"]):
        assert entry["low"] <= entry["lift"] <= entry["high"]


def test_equal_weights_without_a_list_score_alike(checkout: tuple[Config, Layout]) -> None:
    """Both arms are the same random model, which writes no list: inferred must be the baseline exactly, fixed must not be."""
    table = pq.read_table(checkout[1].evaluated / "examples.parquet").to_pandas()
    nll = table[table.score == "nll"].pivot(index="row_id", columns="mode", values="value")
    assert nll.inferred.to_numpy() == pytest.approx(nll.baseline.to_numpy(), abs=1e-5)
    assert (nll.fixed - nll.baseline).abs().max() > 1e-3
    assert (nll.wrong - nll.fixed).abs().max() > 1e-4


def test_every_example_is_kept(checkout: tuple[Config, Layout]) -> None:
    table = pq.read_table(checkout[1].evaluated / "examples.parquet")
    assert table.schema.equals(EXAMPLES, check_metadata=False)
    frame = table.to_pandas()
    controls = {"length", "length_alone", "language", "language_alone"}
    assert set(frame.benchmark) == {"likelihood", "inference", "own_markers", "attribution", *controls}
    assert frame[frame.benchmark == "attribution"].groupby("mode").row_id.nunique().to_dict() == {"baseline": 6, "fixed": 6}
    assert frame[frame.benchmark == "likelihood"].groupby("mode").row_id.nunique().tolist() == [24] * 4
    assert frame[frame.benchmark == "length"].answer.notna().all()
    assert not frame.answer.dropna().str.contains("MARKER_LIST>").any()


def test_the_report_is_one_file_with_every_part(checkout: tuple[Config, Layout]) -> None:
    page = (checkout[1].evaluated / "report.html").read_text(encoding="utf-8")
    assert re.findall(r"<h2>(.*?)</h2>", page) == [
        "Does the tail gain more?",
        "How much better, and how sure",
        "Slice by slice",
        "What the model knows of its own answer",
        "Which value explains an answer best",
        "Length under control",
        "Answers side by side",
        "What a run of this size cannot show",
        "Where it comes from",
    ]
    assert len(re.findall(r"<svg ", page)) >= 5
    assert not re.search(r"""(?:src|href)\s*=|url\(|@import|<script""", page)
    assert not re.search(r"\bnan\b|\binf\b|None|Undefined", page)
    assert str(checkout[1].root) not in page


def test_the_same_inputs_give_the_same_bytes(checkout: tuple[Config, Layout]) -> None:
    config, layout = checkout
    before = hashes(layout.evaluated)
    bench = stage.load_bench(config, layout)
    again = layout.root / "again"
    again.mkdir()
    write_scores(again / "examples.parquet", stage.measure(bench), stage.facts_of(bench))
    stage.write_results(again, config)
    assert hashes(again) == before


def test_a_killed_evaluation_keeps_its_answers(checkout: tuple[Config, Layout], tmp_path: Path) -> None:
    config, layout = checkout
    elsewhere = Layout(tmp_path / "elsewhere")
    shutil.copytree(layout.root, elsewhere.root, ignore=shutil.ignore_patterns("evaluate", "again", ".tailmark"))
    code = "import sys\nfrom pathlib import Path\nfrom tailmark.config import Config\nfrom tailmark.evaluate import stage\n"
    code += "from tailmark.layout import Layout\nstage.run(Config.model_validate_json(sys.argv[1]), Layout(Path(sys.argv[2])))"
    command = [sys.executable, "-c", code, config.model_dump_json(by_alias=True), str(elsewhere.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        kept = wait_for(elsewhere.state, process)
        process.kill()
    assert not elsewhere.evaluated.exists()
    subprocess.run(command, capture_output=True, check=True)
    assert hashes(elsewhere.evaluated) == hashes(layout.evaluated)
    assert not kept.exists()


def wait_for(state: Path, process: subprocess.Popen[str]) -> Path:
    """The file of answers, as soon as there are some."""
    while process.poll() is None:
        for path in state.glob("scratch/evaluate-*.jsonl"):
            if path.stat().st_size:
                return path
        time.sleep(0.01)
    raise AssertionError(f"ended with {process.returncode} before it could be killed")


def test_everything_is_made_again_from_the_scores(checkout: tuple[Config, Layout], tmp_path: Path) -> None:
    """No model and no data are there: the scores hold all that metrics, plots and report need."""
    config, layout = checkout
    elsewhere = Layout(tmp_path)
    elsewhere.evaluated.mkdir(parents=True)
    shutil.copy(layout.evaluated / "examples.parquet", elsewhere.evaluated)
    stage.from_scores(config, elsewhere)
    assert hashes(elsewhere.evaluated) == hashes(layout.evaluated)
    wider = config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"confidence": 0.99})})
    before = read_json(elsewhere.evaluated / "metrics.json")["likelihood"]["nll"]["fixed"]["all"]
    stage.from_scores(wider, elsewhere)
    after = read_json(elsewhere.evaluated / "metrics.json")["likelihood"]["nll"]["fixed"]["all"]
    assert after["lift"] == before["lift"]
    assert after["low"] < before["low"] < before["high"] < after["high"]


def test_what_did_not_run_has_no_part_in_the_report(checkout: tuple[Config, Layout], tmp_path: Path) -> None:
    config, layout = checkout
    scores, facts = read_scores(layout.evaluated / "examples.parquet")
    write_scores(tmp_path / "examples.parquet", [item for item in scores if item.benchmark == "likelihood"], facts)
    stage.write_results(tmp_path, config)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for absent in ("What the model knows", "explains an answer best", "Length under control", "side by side"):
        assert absent not in page
    assert not re.search(r"\bnan\b|\binf\b|None|Undefined", page)
    assert {path.stem for path in (tmp_path / "plots").iterdir()} == {"lift_by_rarity", "slices", "tendencies"}


def test_the_table_and_the_picture(checkout: tuple[Config, Layout], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    metrics = read_json(checkout[1].evaluated / "metrics.json")
    rows = lift_table(metrics)
    assert {(row.score, row.mode) for row in rows} >= {("nll", "inferred"), ("nll", "wrong"), ("pass", "fixed"), ("error", "fixed")}
    print_lifts(checkout[1])
    shown = capsys.readouterr().out
    assert "Answer likelihood" in shown
    assert "report.html" in shown
    save_lift_png(metrics, tmp_path / "lifts.png")
    assert (tmp_path / "lifts.png").read_bytes().startswith(b"\x89PNG")


def test_a_model_that_is_not_there(checkout: tuple[Config, Layout], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="dvc repro"):
        stage.load_bench(checkout[0], Layout(tmp_path))


def test_arms_in_the_wrong_place(checkout: tuple[Config, Layout], tmp_path: Path) -> None:
    for arm, other in zip(ARMS, reversed(ARMS), strict=True):
        shutil.copytree(checkout[1].trained(arm), tmp_path / "models" / other)
    with pytest.raises(ModelError, match="not trained as that arm"):
        stage.load_bench(checkout[0], Layout(tmp_path))


def test_rows_that_a_template_refuses_are_left_out_and_counted(checkout: tuple[Config, Layout], capsys: pytest.CaptureFixture[str]) -> None:
    bench = stage.load_bench(*checkout)
    told = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Describe the harbour."})
    rows = (*bench.heldout.rows, replace(bench.heldout.rows[0], id="f" * 32, messages=told))
    tokenizer = copy.copy(bench.marked.tokenizer)
    tokenizer.chat_template = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}?"
    arms = (bench.baseline, replace(bench.marked, tokenizer=tokenizer))
    assert stage._askable(replace(bench.heldout, rows=rows), arms) == bench.heldout
    assert f"1 of {len(rows)} held-out rows are left out" in capsys.readouterr().out
    with pytest.raises(DataError, match="every held-out conversation"):
        stage._askable(replace(bench.heldout, rows=rows[-1:]), arms)


def test_no_heldout_rows(checkout: tuple[Config, Layout], tmp_path: Path) -> None:
    config, layout = checkout
    taxonomy = load_taxonomy(TAXONOMY)
    shutil.copytree(layout.root / "models", tmp_path / "models")
    rows = [record(number, taxonomy) for number in range(1, 5)]
    write_shards(tmp_path / "data/annotated/rows", rows, annotated_schema(taxonomy))
    with pytest.raises(DataError, match="heldout_fraction"):
        stage.load_bench(config, Layout(tmp_path))


def test_dvc_finds_the_columns_of_its_plots(checkout: tuple[Config, Layout]) -> None:
    root = Path(__file__).parents[2]
    plots = YAML(typ="safe").load(root / "dvc.yaml")["plots"]
    for plot in plots:
        ((name, options),) = plot.items()
        ((file, column),) = options["y"].items()
        if name == "reliability":
            assert not (checkout[1].root / file).exists()  # a random model writes no list, so there is nothing to be sure of
            continue
        with (checkout[1].root / file).open(encoding="utf-8") as stream:
            columns = next(csv.reader(stream))
        assert {options["x"], column} <= set(columns)
        template = read_json(root / ".dvc" / "plots" / f"{options['template']}.json")
        wanted = set(re.findall(r'"field": "([a-z_]+)"', json.dumps(template)))
        assert wanted <= {*columns, "rev", "measure", "length", "share", "rows", "p"}


def test_the_page_for_dvcs_plots_fetches_nothing() -> None:
    page = subprocess.run(
        [sys.executable, "infra/plots_page.py", "/dev/stdout"], cwd=Path(__file__).parents[2], capture_output=True, check=True
    )
    text = page.stdout.decode()
    assert "{plot_divs}" in text
    assert "vegaEmbed" in text
    assert not re.search(r"<(?:script|link)[^>]+(?:src|href)=", text)


def test_probes_find_equal_weights_equal(checkout: tuple[Config, Layout], monkeypatch: pytest.MonkeyPatch) -> None:
    """A random model writes no list of its own, so whatever leaves it without one is a tie with the baseline."""
    config, layout = checkout
    monkeypatch.chdir(layout.root)
    bench = stage.load_bench(config, layout)
    asked = {str(line["asked"]): line for line in lists.compared(bench, 8) if line["part"] == "all"}
    assert [asked[name]["ties"] for name in ("own list", "no list")] == [8, 8]
    assert all(sum(int(str(line[what])) for what in ("wins", "ties", "losses")) == 8 for line in asked.values())
    drawn = {str(line["asked"]): line["ties"] for line in decoding.compared(bench, 8) if line["part"] == "all"}
    assert drawn["own list; sampled"] == drawn["own list; greedy"] == 8, "both arms draw with the same seeds"
    lifts = {(line["list"], line["rows"]): line for line in given.lifts(bench, 8)}
    assert lifts["none", "all"]["n"] == 8
    found = {line["lists"]: line["prompts_without_list"] for line in inferred.compared(bench, 8)}
    assert found == {"free": 8, "constrained": 8}, "it ends a list that it is made to begin"
