"""The config tree: what it refuses, how it names the way out, profiles and origins."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailmark.config import Config, load_config, parse_config
from tailmark.errors import ConfigError
from tailmark.profiles import resolved_options, use_profile

ROOT = Path(__file__).resolve().parents[2]


def checkout(tmp_path: Path) -> Path:
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "demo.yaml").write_text("ingest:\n  rows: 1500\n")
    (tmp_path / "params" / "small.yaml").write_text("ingest:\n  rows: 20\nseed: 3\n")
    return tmp_path


@pytest.mark.parametrize(
    ("data", "named", "way_out"),
    [
        ({"train": {"learnin_rate": 1}}, "train.learnin_rate", "learning_rate"),
        ({"tran": {}}, "'tran'", "train"),
        ({"ingest": {"sources": [{"kind": "jsonl", "nmae": "x"}]}}, "ingest.sources.0.nmae", "name"),
        ({"prepare": {"zzzzqqqq": 1}}, "prepare.zzzzqqqq", "use one of: markers"),
    ],
)
def test_unknown_key_names_the_nearest_known_one(data: dict[str, object], named: str, way_out: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(data, Path("params.yaml"))
    assert named in str(caught.value)
    assert way_out in str(caught.value)


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({"prepare": {"dataset_dropout": 1.5}}, "prepare.dataset_dropout"),
        ({"train": {"zero_stage": 0}}, "train.zero_stage"),
        ({"train": {"learning_rate": 1e-5, "min_learning_rate": 1e-4}}, "min_learning_rate is above learning_rate"),
        ({"ingest": {"sources": [{"kind": "jsonl", "name": "x"}]}}, "needs `name` and `path`"),
        ({"seed": "many"}, "seed"),
        ({"register": {"alias": "v3"}}, "keeps the alias"),
        ({"register": {"model_name": "a/b"}}, "register.model_name"),
        ({"evaluate": {"modes": []}}, "evaluate.modes"),
        ({"ingest": {"heldout_fraction": 0}}, "ingest.heldout_fraction"),
    ],
)
def test_impossible_value_names_the_option(data: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named.replace("(", r"\(")):
        parse_config(data, Path("params.yaml"))


@pytest.mark.parametrize("text", ["a: [", "- 1\n", ""])
def test_broken_params_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"params\.yaml"):
        load_config(tmp_path / "params.yaml")


def test_missing_params_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="config use demo"):
        load_config(tmp_path / "params.yaml")


def test_config_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().seed = 3  # type: ignore[misc]


def test_use_writes_every_option_and_origins_tell(tmp_path: Path) -> None:
    root = checkout(tmp_path)
    use_profile(root, "demo")
    origins = {option.name: option.origin for option in resolved_options(root)}
    assert origins["ingest.rows"] == "profile demo"
    assert origins["train.learning_rate"] == "default"
    assert load_config(root / "params.yaml").ingest.rows == 1500


def test_switching_profiles_keeps_the_users_own_values(tmp_path: Path) -> None:
    root = checkout(tmp_path)
    use_profile(root, "demo")
    params = root / "params.yaml"
    params.write_text(params.read_text().replace("learning_rate: 0.00025\n  min", "learning_rate: 0.003\n  min"))
    kept = use_profile(root, "small")
    assert [(option.name, option.value) for option in kept] == [("train.learning_rate", 0.003)]
    config = load_config(params)
    assert (config.profile, config.seed, config.ingest.rows, config.train.learning_rate) == ("small", 3, 20, 0.003)
    assert use_profile(root, "demo", reset=True) == []
    config = load_config(params)
    assert (config.profile, config.seed, config.ingest.rows, config.train.learning_rate) == ("demo", 17, 1500, 0.00025)


def test_unknown_profile_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="demo, small"):
        use_profile(checkout(tmp_path), "dmeo")


def test_params_yaml_of_the_repository_is_the_demo_profile(tmp_path: Path) -> None:
    (tmp_path / "params").symlink_to(ROOT / "params")
    use_profile(tmp_path, "demo")
    assert (tmp_path / "params.yaml").read_text() == (ROOT / "params.yaml").read_text(), "run `tailmark config use demo --reset`"


@pytest.mark.parametrize("profile", sorted(path.stem for path in (ROOT / "params").glob("*.yaml")))
def test_every_profile_is_valid(profile: str, tmp_path: Path) -> None:
    (tmp_path / "params").symlink_to(ROOT / "params")
    use_profile(tmp_path, profile)
    assert load_config(tmp_path / "params.yaml").profile == profile
