"""Options that name markers or values are held to the taxonomy before anything runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tailmark.config import Config, check_markers, parse_config, read_params
from tailmark.errors import ConfigError
from tailmark.taxonomy import load_taxonomy

ROOT = Path(__file__).resolve().parents[2]
PAPER = ROOT / "src" / "tailmark" / "taxonomy" / "paper.yaml"
SOURCE = {"kind": "jsonl", "name": "mine", "path": "x.jsonl", "prompt": "p", "completion": "c"}


@pytest.mark.parametrize("profile", [path.stem for path in sorted((ROOT / "params").glob("*.yaml"))])
def test_every_profile_names_markers_of_its_taxonomy(profile: str) -> None:
    path = ROOT / "params" / f"{profile}.yaml"
    config = parse_config(read_params(path), path)
    check_markers(config, load_taxonomy(ROOT / config.taxonomy.file))


@pytest.mark.parametrize(
    ("params", "option", "said"),
    [
        ({"longtail": {"marker": "domian"}}, "longtail.marker", "did you mean 'domain'"),
        ({"longtail": {"marker": "length_tokens"}}, "longtail.marker", "is a number"),
        ({"ingest": {"stratify": ["domain", "langs"]}}, "ingest.stratify", "did you mean 'lang'"),
        ({"ingest": {"only": {"lng": ["French"]}}}, "ingest.only", "did you mean 'lang'"),
        ({"ingest": {"only": {"lang": ["French", "Frensh"]}}}, "ingest.only.lang", "did you mean 'French'"),
        ({"prepare": {"markers": ["lang", "tasks"]}}, "prepare.markers", "did you mean 'task'"),
        ({"prepare": {"digits": {"length_token": 3}}}, "prepare.digits", "did you mean 'length_tokens'"),
        ({"prepare": {"digits": {"lang": 3}}}, "prepare.digits", "take lang out"),
        ({"annotate": {"llm": {"base_url": "http://h/v1", "model": "m", "markers": ["tone"]}}}, "annotate.llm.markers", "use some of"),
        ({"ingest": {"sources": [SOURCE | {"markers": {"domains": "x"}}]}}, "ingest.sources[0] (mine)", "did you mean 'domain'"),
        ({"ingest": {"sources": [SOURCE | {"constants": {"domain": "Maths"}}]}}, "ingest.sources[0] (mine)", "did you mean 'Math'"),
        (
            {"ingest": {"sources": [SOURCE | {"markers": {"task": "x"}, "values": {"task": {"q": "Qestion"}}}]}},
            "ingest.sources[0] (mine)",
            "Qestion",
        ),
    ],
)
def test_a_misspelt_marker_or_value_is_told_with_the_nearest(params: dict[str, Any], option: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_markers(Config.model_validate(params), load_taxonomy(PAPER))
    assert option in str(caught.value)
    assert said in str(caught.value)


def test_a_stage_tells_before_it_runs(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(f"taxonomy: {{file: {PAPER}}}\nprepare: {{markers: [domian]}}\n")
    done = subprocess.run([sys.executable, "-m", "tailmark.cli", "ingest"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "prepare.markers" in done.stderr
    assert "did you mean 'domain'" in done.stderr
    assert not (tmp_path / ".tailmark").exists()


@pytest.mark.parametrize("url", ["http://user:sk-planted@h/v1", "https://h/v1?key=sk-planted", "h/v1"])
def test_an_address_holds_no_key_and_an_error_does_not_repeat_it(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({"annotate": {"llm": {"base_url": url, "model": "m"}}}, tmp_path / "params.yaml")
    assert "sk-planted" not in str(caught.value)
    assert "annotate.llm.base_url" in str(caught.value)


def test_a_key_in_place_of_a_variables_name_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({"annotate": {"llm": {"base_url": "http://h/v1", "model": "m", "key_variable": "sk-planted"}}}, tmp_path / "p")
    assert "sk-planted" not in str(caught.value)
    with pytest.raises(ConfigError, match="key_variable") as caught:
        parse_config({"annotate": {"llm": {"base_url": "http://h/v1", "model": "m", "key": "sk-planted"}}}, tmp_path / "p")
    assert "sk-planted" not in str(caught.value)


def test_a_limit_in_money_needs_a_price(tmp_path: Path) -> None:
    llm = {"base_url": "http://h/v1", "model": "m", "max_cost": 5}
    with pytest.raises(ConfigError, match="input_price"):
        parse_config({"annotate": {"llm": llm}}, tmp_path / "p")
    parse_config({"annotate": {"llm": llm | {"output_price": 2}}}, tmp_path / "p")
