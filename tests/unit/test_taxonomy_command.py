"""`tailmark taxonomy show | check | diff`: what a person sees, and every error with its line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tailmark.errors import TaxonomyError
from tailmark.taxonomy import command, load_taxonomy
from tailmark.taxonomy.check import hints, problems
from tailmark.taxonomy.compare import compare

ROOT = Path(__file__).resolve().parents[2]
PAPER = ROOT / "src" / "tailmark" / "taxonomy" / "paper.yaml"

SMALL = """\
name: small
markers:
  mood:
    kind: categorical
    definition: How it sounds.
    values:
      calm: Calm.
      loud: Loud.
  stars:
    kind: integer
    definition: How many stars.
    minimum: 1
    maximum: 5
"""


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def write(folder: Path, text: str, name: str = "t.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_show_prints_every_marker_and_value(capsys: pytest.CaptureFixture[str]) -> None:
    command.show(PAPER, None)
    out = " ".join(capsys.readouterr().out.split())
    taxonomy = load_taxonomy(PAPER)
    for name, spec in taxonomy.markers.items():
        assert name in out
        assert all(value in out for value in spec.values)
    assert "13 markers, 87 values, 4 numbers" in out


def test_show_one_marker_with_definitions_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    command.show(PAPER, "domain")
    out = " ".join(capsys.readouterr().out.split())
    assert "Diagnosis, treatment and prevention of illness." in out
    assert "Why is the sky red in the evening?" in out
    command.show(PAPER, "length_tokens")
    assert "From 1 to 10,000,000." in capsys.readouterr().out
    command.show(PAPER, "code_type")
    assert "Only where domain is Code." in capsys.readouterr().out


def test_show_a_marker_that_is_none_names_the_nearest() -> None:
    with pytest.raises(TaxonomyError, match="did you mean 'domain'"):
        command.show(PAPER, "domian")
    with pytest.raises(TaxonomyError, match="use one of"):
        command.show(PAPER, "xyz")


def test_markup_in_a_definition_is_shown_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.show(write(tmp_path, SMALL.replace("Calm.", "'[red]Calm[/red] [x].'")), "mood")
    assert "[red]Calm[/red] [x]." in capsys.readouterr().out


def test_check_of_a_sound_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.check(PAPER)
    assert "sound" in capsys.readouterr().out
    assert hints(load_taxonomy(PAPER)) == []
    text = SMALL.replace("loud: Loud.", "Calm: Louder.") + "    examples: []\n"
    command.check(write(tmp_path, text))
    out = capsys.readouterr().out
    assert "differ only in case" in out
    assert "few-shot" in out


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("      loud: Loud.\n", "      loud: Loud.\n      calm: Quiet.\n", 9, "markers.mood.values.calm: stands twice; first in line 7"),
        ("  stars:", "  mood:", 9, "markers.mood: stands twice; first in line 3"),
        ("    kind: integer\n", "    kin: integer\n", 10, "did you mean 'kind'?"),
        ("    kind: integer\n", "    kin: integer\n", 9, "markers.stars.kind: is missing"),
        ("kind: integer", "kind: whole", 10, "'categorical', 'integer' or 'real'"),
        ("calm: Calm.", "1: Calm.", 7, "put it in quotes"),
        ("calm: Calm.", "'<calm>': Calm.", 7, "without < and >"),
        ("calm: Calm.", "calm: 7", 7, "should be text, not 7"),
        ("  stars:", "  Stars:", 9, "lower-case letters"),
        ("maximum: 5", "maximum: 0", 9, "minimum is above maximum"),
        ("maximum: 5", "maximum: many", 13, "valid number"),
        ("name: small\n", "nam: small\n", 1, "did you mean 'name'?"),
        ("    maximum: 5\n", "    applies_to: {mood: [angry]}\n", 1, "mood=angry"),
        ("    values:\n", "    examples: [{txt: Hush, value: calm}]\n    values:\n", 6, "did you mean 'text'?"),
        ("    values:\n", "    examples: [{text: Hush, value: soft}]\n    values:\n", 3, "not defined: soft"),
        ("name: small\n", "name: [small\n", 2, "this is not YAML"),
        ("name: small\n", "- small\n", 2, "this is not YAML"),
        (SMALL, "", None, "the file is empty"),
        (SMALL, "just a word", 1, "dictionary"),
    ],
)
def test_every_problem_has_its_line(tmp_path: Path, old: str, new: str, line: int | None, said: str) -> None:
    assert old in SMALL
    found = problems(write(tmp_path, SMALL.replace(old, new, 1)))
    assert any(item.line == line and said in str(item) for item in found), [str(item) for item in found]


def test_all_problems_are_listed_at_once(tmp_path: Path) -> None:
    text = SMALL.replace("kind: integer", "kind: whole").replace("calm: Calm.", "1: Calm.").replace("maximum: 5", "maxmum: 5")
    with pytest.raises(TaxonomyError, match="3 problems") as caught:
        command.check(write(tmp_path, text))
    assert [word for word in ("line 7:", "line 10:", "line 13:") if word not in str(caught.value)] == []
    assert caught.value.fix


def test_no_problem_is_found_in_what_can_be_loaded(tmp_path: Path) -> None:
    assert problems(PAPER) == problems(write(tmp_path, SMALL)) == []


@pytest.mark.parametrize("content", [b"\xff\xfe\x00name", b"\x00"])
def test_a_file_that_is_not_text(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.yaml").write_bytes(content)
    assert len(problems(tmp_path / "t.yaml")) == 1


def changes(folder: Path, old: str, new: str) -> set[tuple[str, str, str]]:
    one, other = load_taxonomy(write(folder, old, "old.yaml")), load_taxonomy(write(folder, new, "new.yaml"))
    return {(change.marker, change.kind, change.says) for change in compare(one, other)}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("name: small", "name: other", set()),
        ("      loud: Loud.\n", "", {("mood", "removed", "value loud")}),
        ("      loud: Loud.\n", "      loud: Loud.\n      sad: Sad.\n", {("mood", "added", "value sad")}),
        ("      calm: Calm.\n", "      calmly: Calm.\n", {("mood", "renamed?", "value calm to calmly")}),
        ("  mood:", "  tone:", {("mood", "renamed?", "to 'tone'")}),
        ("maximum: 5", "maximum: 10", {("stars", "changed", "range: 1 to 5 is now 1 to 10")}),
        ("kind: integer", "kind: real", {("stars", "changed", "kind: integer is now real")}),
        ("calm: Calm.", "calm: Quiet.", {("mood", "changed", 'definition of calm: now "Quiet."')}),
        ("How it sounds.", "Its mood.", {("mood", "changed", 'definition: now "Its mood."')}),
        (
            "    maximum: 5\n",
            "    maximum: 5\n    applies_to: {mood: [calm]}\n",
            {("stars", "changed", "applies_to: always is now mood=calm")},
        ),
        ("    kind: integer", "    read_from: metadata\n    kind: integer", {("stars", "changed", "read_from: prompt is now metadata")}),
    ],
)
def test_a_difference_is_named(tmp_path: Path, old: str, new: str, expected: set[tuple[str, str, str]]) -> None:
    assert old in SMALL
    assert changes(tmp_path, SMALL, SMALL.replace(old, new, 1)) == expected


def test_markers_that_come_and_go(tmp_path: Path) -> None:
    only_mood = SMALL.split("  stars:")[0]
    assert changes(tmp_path, SMALL, only_mood) == {("stars", "removed", "integer")}
    assert changes(tmp_path, only_mood, SMALL) == {("stars", "added", "integer")}
    assert changes(tmp_path, SMALL, SMALL) == set()


def test_diff_says_what_becomes_stale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = write(tmp_path, SMALL, "old.yaml"), write(tmp_path, SMALL.replace("loud: Loud.", "harsh: Harsh."), "new.yaml")
    data, model, other = tmp_path / "report.json", tmp_path / "model.json", tmp_path / "other.json"
    data.write_text(json.dumps({"taxonomy": {"digest": load_taxonomy(new).digest}}))
    model.write_text(json.dumps({"taxonomy": load_taxonomy(old).digest}))
    other.write_text(json.dumps({"taxonomy": "another"}))
    command.diff(old, new, {"data": data, "model": model, "other": other, "none": tmp_path / "none.json"})
    out = capsys.readouterr().out
    for said in ("data: made with the new one", "model: made with the old one: stale", "other: made with neither: stale", "train again"):
        assert said in out
    assert "none:" not in out
    command.diff(old, write(tmp_path, SMALL.replace("Loud.", "Very loud."), "words.yaml"), {})
    assert "No marker or value changes" in capsys.readouterr().out
    command.diff(old, old, {"model": model})
    assert "The two are the same." in capsys.readouterr().out


def tailmark(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tailmark.cli", "taxonomy", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_the_commands_end_with_2_and_a_way_out(tmp_path: Path) -> None:
    bad = write(tmp_path, SMALL.replace("kind: integer", "kind: whole"))
    for arguments in (["check", str(bad)], ["show", "none.yaml"], ["diff", str(bad), str(PAPER)], ["check"]):
        done = tailmark(*arguments, cwd=tmp_path)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
        assert "fix:" in done.stderr
    write(tmp_path, f"taxonomy: {{file: {PAPER}}}", "params.yaml")
    assert tailmark("check", cwd=tmp_path).returncode == 0
