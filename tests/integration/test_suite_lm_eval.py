"""The bridge to the lm-evaluation-harness: a task of our own, through the real harness, by both arms of a random model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tailmark.base import stage as base_stage
from tailmark.config import Config
from tailmark.evaluate import stage
from tailmark.evaluate.suite.runner import run_suite
from tailmark.layout import Layout
from tailmark.records import annotated_schema, write_shards
from tailmark.taxonomy import load_taxonomy
from tests.integration.test_evaluate import MARKERS, TAXONOMY, record, write_arm

TASK = """task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}}}
test_split: test
output_type: {kind}
doc_to_text: "{{{{question}}}}\\nAnswer:"
{target}
metric_list:
- {{metric: {metric}, aggregation: mean, higher_is_better: true}}
"""
CHOICE = 'doc_to_choice: "{{choices}}"\ndoc_to_target: answer'
WRITING = 'doc_to_target: "{{choices[answer]}}"\ngeneration_kwargs: {until: ["\\n"], max_gen_toks: 4, do_sample: false}'


@pytest.mark.slow
def test_both_arms_go_through_the_harness(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval", reason="lm-eval is not installed (requirements-lm-eval.txt)")
    data = tmp_path / "boats.jsonl"
    rows = [{"question": f"How many boats are {number} and one?", "choices": [str(number + 1), "many"], "answer": 0} for number in range(6)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    for name, kind, target, metric in (
        ("boats", "multiple_choice", CHOICE, "acc"),
        ("boats_said", "generate_until", WRITING, "exact_match"),
    ):
        (tasks / f"{name}.yaml").write_text(TASK.format(name=name, data=data, kind=kind, target=target, metric=metric))
    layout, taxonomy = Layout(tmp_path / "checkout"), load_taxonomy(TAXONOMY)
    benchmark = {"kind": "lm_eval", "tasks": ["boats", "boats_said"], "include_path": str(tasks)}
    sections = {"base": {"source": "random:tiny"}, "taxonomy": {"file": str(TAXONOMY)}}
    config = Config.model_validate({**sections, "evaluate": {"batch_size": 8, "benchmarks": [benchmark]}})
    base_stage.run(config, layout)
    write_arm(layout, "baseline", ())
    write_arm(layout, "marked", MARKERS)
    annotated = sorted((record(number, taxonomy) for number in range(20)), key=lambda row: str(row["id"]))
    write_shards(layout.annotated / "rows", annotated, annotated_schema(taxonomy))

    suite = run_suite(stage.load_bench(config, layout), layout)

    assert {(item.mode, item.score) for item in suite.scores} == {
        (mode, score) for mode in ("baseline", "absent") for score in ("boats.acc", "boats_said.exact_match")
    }
    assert len(suite.scores) == 2 * 2 * 6
    # The same weights in both arms, and no marker in either: the harness must find no difference.
    values = {(item.mode, item.score, item.row.id): item.value for item in suite.scores}
    assert all(value == values["absent", score, row] for (mode, score, row), value in values.items() if mode == "baseline")
    (entry,) = suite.report["lm_eval"]
    mean = sum(item.value for item in suite.scores if (item.mode, item.score) == ("absent", "boats.acc")) / 6
    assert entry["found"]["absent"]["boats"]["acc,none"] == pytest.approx(mean, abs=1e-6)
    assert {measure.score: measure.unit for measure in suite.measures} == {"boats.acc": "share", "boats_said.exact_match": "share"}
