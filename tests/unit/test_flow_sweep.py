"""The file of a sweep, its members, and the page that compares them."""

from __future__ import annotations

import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tailmark.errors import ConfigError
from tailmark.profiles import use_profile
from tasks.comparison import Estimate, Panel, panels
from tasks.member import _reason, command
from tasks.parameters import AS_COMMITTED, Request
from tasks.sweep_page import picture, rows, sweep_page
from tasks.sweepfile import Member, SweepFile, members, read_sweep

ROOT = Path(__file__).resolve().parents[2]


def run(root: Path, *arguments: str) -> str:
    author = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    return subprocess.run(["git", *author, *arguments], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("checkout")
    run(root, "init", "-q", "-b", "main")
    (root / "params").mkdir()
    for name in ("demo", "tiny"):
        (root / "params" / f"{name}.yaml").write_text((ROOT / "params" / f"{name}.yaml").read_text())
    use_profile(root, "demo")
    run(root, "add", "-A")
    run(root, "commit", "-q", "-m", "start")
    return root


def made(checkout: Path, profile: str = AS_COMMITTED, **content: Any) -> list[Member]:
    return members(SweepFile(name="s", **content), checkout, run(checkout, "rev-parse", "HEAD"), profile)


def test_a_grid_is_every_combination_beside_the_listed_members(checkout: Path) -> None:
    found = made(checkout, grid={"prepare.dataset_dropout": [0.0, 0.5], "seed": [1, 2]}, members={"mine": {"prepare.placement": "prompt"}})
    assert [member.name for member in found] == [
        "dataset_dropout=0.0,seed=1", "dataset_dropout=0.0,seed=2", "dataset_dropout=0.5,seed=1", "dataset_dropout=0.5,seed=2", "mine",
    ]  # fmt: skip
    assert found[0].overrides == ("prepare.dataset_dropout=0.0", "seed=1")
    assert len({member.run for member in found}) == 5
    for member in found:
        run(checkout, "check-ref-format", f"refs/heads/tailmark/{member.run}")


def test_a_member_keeps_its_name_while_nothing_changes(checkout: Path) -> None:
    one, other = (made(checkout, members={"a": {"seed": seed}})[0] for seed in (1, 1))
    assert one == other
    assert made(checkout, members={"a": {"seed": 2}})[0].run != one.run
    assert made(checkout, profile="tiny", members={"a": {"seed": 1}})[0].run != one.run


@pytest.mark.parametrize(
    ("options", "said"),
    [({"prepare.dataset_droput": 0.5}, "did you mean 'dataset_dropout'"), ({"prepare.dataset_dropout": 5}, "cannot be 5")],
)
def test_a_wrong_option_is_found_before_anything_runs_and_names_its_member(checkout: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match="member 'second'") as caught:
        made(checkout, members={"first": {"seed": 1}, "second": options})
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: a\n", "neither `members` nor a `grid`"),
        ("name: a b\nmembers: {x: {}}\n", "name"),
        ("name: a\nmember: {x: {}}\n", "member"),
        ("name: [", "cannot be read"),
    ],
)
def test_a_file_that_is_no_sweep(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(ConfigError, match="fix:") as caught:
        read_sweep(tmp_path / "s.yaml")
    assert said in str(caught.value)


def test_a_member_is_the_pipeline_in_a_worktree() -> None:
    words = command(Member("a", "sweep-s-a-1", "tiny", ("seed=1",)), Request(revision="abc", targets=("evaluate",), push=False))
    text = " ".join(words[1:])
    assert text.startswith("-m flows.pipeline --worktree --name sweep-s-a-1 --revision abc --uncommitted ignore")
    assert "--profile tiny --no-push --set seed=1 --target evaluate" in text


def test_what_went_wrong_is_the_stages_own_error() -> None:
    said = [
        "  error: 'x' is not a marker.",
        "  where: params.yaml",
        "",
        "Stage 'prepare' failed (exit code 2); its own message stands above.",
    ]
    assert _reason(said) == "'x' is not a marker."
    assert _reason(["Stopped.", "  hint"]) == "Stopped."
    assert _reason([]) == "It ended without a word."


def entry(lift: float) -> dict[str, float]:
    return {"baseline": 1.0, "marked": 1.0 + lift, "lift": lift, "low": lift - 0.1, "high": lift + 0.1, "n": 20}


def evaluation(lift: float, accuracy: float) -> dict[str, Any]:
    inference = {"domain": {"accuracy": accuracy, "low": accuracy - 0.05, "high": accuracy + 0.05, "n": 20}}
    likelihood = {"nll": {"inferred": {"all": entry(lift), "tail": entry(float("nan"))}}}
    return {"metrics": {"inference": inference, "likelihood": likelihood}, "benchmarks": {"measures": []}}


def test_members_stand_together_by_measure() -> None:
    found = panels({"0_50": evaluation(-0.2, 0.1), "50_50": evaluation(0.3, 0.7)})
    assert [(panel.title, panel.lift, [row.member for row in panel.rows]) for panel in found] == [
        ("domain: right value written", False, ["0_50", "50_50"]),
        ("Answer likelihood", True, ["0_50", "50_50"]),
    ]
    assert [round(row.value, 6) for row in found[0].rows] == [10.0, 70.0]
    assert rows(found)[3] == {
        "measure": "Answer likelihood", "unit": "nats per token", "mode": "inferred", "over baseline": True, "member": "50_50",
        "value": 0.3, "low": 0.19999999999999998, "high": 0.4, "n": 20,
    }  # fmt: skip


def test_zero_stands_in_a_picture_of_lifts() -> None:
    rows_ = (Estimate("a", -3.0, -4.0, -2.0, 5), Estimate("b", 2.0, 2.0, 2.0, 5))
    drawn = picture(Panel("t", "nats per token", "fixed", True, rows_))
    assert "<svg" in drawn
    assert "−3.000 (−4.000 to −2.000)" in drawn
    one = picture(Panel("t", "% of prompts", "inferred", False, (Estimate("a", 0.0, 0.0, 0.0, 5),)))
    assert "0.0 (0.0 to 0.0)" in one
    assert "nan" not in drawn + one


class Checked(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []

    def handle_starttag(self, _tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value for name, value in attrs if name in ("src", "href") and value]


def test_the_page_fetches_nothing_and_escapes_what_it_is_given() -> None:
    sweep = SweepFile(name="s", about="<b>why</b>", shared={"seed": 1}, members={"0_50": {}, "bad": {}})
    asked = [
        Member("0_50", "sweep-s-0_50-1", AS_COMMITTED, ("prepare.dataset_dropout=0.0", "seed=1")),
        Member("bad", "sweep-s-bad-1", AS_COMMITTED, ()),
    ]
    facts = {"commit": "a" * 40, "profile": "demo", "percent": "95"}
    page = sweep_page(sweep, asked, {"0_50": "kept", "bad": "it <failed>"}, panels({"0_50": evaluation(0.1, 0.5)}), facts)
    checked = Checked()
    checked.feed(page)
    assert checked.fetched == []
    assert "&lt;b&gt;why" in page
    assert "it &lt;failed&gt;" in page
    assert "done before" in page
    assert page.count("<svg") == 2
    assert re.search(r"All with <code>seed=1</code>", page)
    assert "No member has been evaluated" in sweep_page(sweep, asked, {"0_50": "no", "bad": "no"}, [], facts)
