"""The graph as the flow reads it from DVC, and what it says on the terminal."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from tailmark.errors import ConfigError
from tailmark.layout import ARMS, Layout
from tasks.describe import Result, artifact_key, describe
from tasks.display import Display, Estimates
from tasks.graph import Stage, _order, read_graph

ROOT = Path(__file__).resolve().parents[2]
PIPELINE = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]


def write_repo(root: Path, dvc_yaml: str) -> Path:
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
    (root / "dvc.yaml").write_text(dvc_yaml)
    return root


def test_this_pipeline_in_the_order_of_the_data() -> None:
    names = [stage.name for stage in read_graph(ROOT)]
    assert len(names) == 10
    for before, after in [
        ("ingest", "annotate"), ("annotate", "validate"), ("validate", "prepare@marked"), ("base", "prepare@baseline"),
        ("prepare@marked", "train@marked"), ("train@baseline", "evaluate"), ("train@marked", "evaluate"), ("evaluate", "register"),
    ]:  # fmt: skip
        assert names.index(before) < names.index(after), (before, after)


def test_a_target_brings_what_it_needs_and_nothing_else() -> None:
    names = {stage.name for stage in read_graph(ROOT, ["prepare@marked"])}
    assert names == {"base", "ingest", "annotate", "validate", "prepare@marked"}


def test_unknown_target_is_named() -> None:
    with pytest.raises(ConfigError, match="There is no stage 'trian'"):
        read_graph(ROOT, ["trian"])


def test_broken_dvc_yaml_is_a_user_error(tmp_path: Path) -> None:
    write_repo(tmp_path, "stages: [")
    with pytest.raises(ConfigError, match="DVC cannot read the stages"):
        read_graph(tmp_path)


def test_no_checkout_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        read_graph(tmp_path)


def test_outputs_are_where_the_layout_says() -> None:
    layout = Layout(Path())
    outs = {out for stage in read_graph(ROOT) for out in stage.outs}
    folders = [layout.base, layout.ingested, layout.annotated, layout.validated, layout.registered]
    folders += [path for arm in ARMS for path in (layout.prepared(arm), layout.trained(arm))]
    assert {path.as_posix() for path in folders} <= outs
    assert {(layout.training_report(arm) / "metrics.json").as_posix() for arm in ARMS} <= outs
    assert (layout.evaluated / "metrics.json").as_posix() in outs


@pytest.mark.parametrize("name", sorted(PIPELINE))
def test_every_stage_depends_on_its_own_code_and_on_files_that_exist(name: str) -> None:
    entry = PIPELINE[name].get("do", PIPELINE[name])
    code = [dep for dep in entry["deps"] if dep.startswith(("src/", "requirements"))]
    assert f"src/tailmark/{name}" in code
    assert [dep for dep in code if not (ROOT / dep).exists()] == []
    assert not [dep for dep in code if dep.startswith(("src/tailmark/cli", "src/tailmark/console"))]


@pytest.mark.parametrize("name", sorted(PIPELINE))
def test_every_shared_module_a_stage_imports_is_a_dependency(name: str) -> None:
    """Else a change there would leave a stale result in place. Configuration comes as params; the others leave no trace in a result."""
    without_trace = {"config", "console", "errors", "files", "layout", "provenance", "tracking", name}
    text = "".join(path.read_text() for path in (ROOT / "src" / "tailmark" / name).rglob("*.py"))
    imported = set(re.findall(r"^ *from tailmark\.(\w+)", text, flags=re.MULTILINE)) - without_trace
    entry = PIPELINE[name].get("do", PIPELINE[name])
    assert imported <= {Path(dep).stem for dep in entry["deps"] if dep.startswith("src/")}


@given(st.sets(st.tuples(st.integers(0, 8), st.integers(0, 8)).filter(lambda pair: pair[0] > pair[1])))
def test_order_puts_each_stage_after_what_it_needs(edges: set[tuple[int, int]]) -> None:
    needs = {str(node): frozenset(str(low) for high, low in edges if high == node) for node in reversed(range(9))}
    order = _order(needs, needs)
    assert sorted(order) == sorted(needs)
    for name in order:
        assert all(order.index(other) < order.index(name) for other in needs[name])


STAGES = [Stage("one", "the first", frozenset(), ("o",), ()), Stage("two", "the second", frozenset({"one"}), (), ("m.json",))]


def test_plan_and_headings_say_what_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    estimates = Estimates(tmp_path / "durations.json")
    estimates.record("two", 90.0)
    display = Display(STAGES, {"two"}, Estimates(tmp_path / "durations.json"))
    display.plan(STAGES)
    display.heading(STAGES[0], unchanged=True)
    display.heading(STAGES[1], unchanged=False)
    display.line("two", "working: 3/9 rows (33%), about 9 s left")
    display.finished(STAGES[1], "ran", 61.0)
    shown = capsys.readouterr().out
    assert "2 stages, 1 with something to do, about 1 min 30 s." in shown
    assert "1/2 one: nothing changed" in shown
    assert "2/2 two — the second, about 1 min 30 s left in all" in shown
    assert "two done in 1 min 1 s" in shown
    assert Estimates(tmp_path / "durations.json").of("two") == 61.0


def test_stage_page_lists_outputs_and_metrics(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\nstages:\n  two:\n    outs:\n    - path: m.json\n      md5: abc\n      size: 1234\n")
    (tmp_path / "m.json").write_text('{"loss": 1.25, "by": {"tail": 2, "name": "x", "ok": true}}')
    text = describe(STAGES[1], tmp_path, Result("two", "ran", 3.0))
    assert "| `m.json` | 1,234 | `abc` |" in text
    assert "| loss | 1.25 |" in text
    assert "| by.tail | 2 |" in text
    assert "ok" not in text


@pytest.mark.parametrize(("name", "key"), [("train@marked", "stage-train-marked"), ("A_b", "stage-a-b")])
def test_artifact_keys_are_what_prefect_takes(name: str, key: str) -> None:
    assert artifact_key(name) == key
