"""Promotion, refusal, rollback and a tampered log, against a real MLflow server on PostgreSQL."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailmark.config import Config
from tailmark.errors import ModelError, PromotionError, TrackingError
from tailmark.files import read_json
from tailmark.layout import Layout
from tailmark.register import command
from tailmark.register.audit import check
from tailmark.register.fetch import copy_of, load_registered
from tailmark.register.lineage import backward, forward
from tailmark.register.log import PromotionLog
from tailmark.register.promote import Approval, decide, judge, rollback, settle
from tailmark.register.registry import Registry, open_registry
from tests.integration.versions import Outcome, Server, checkout, make_config, mlflow_on_postgres, register, set_data

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with mlflow_on_postgres(tmp_path_factory.mktemp("mlflow")) as running:
        yield running


def promoted(registry: Registry, reference: str | None = None) -> str:
    return decide(registry, judge(registry, reference)).decision


def champion(registry: Registry) -> str | None:
    found = registry.aliased("champion")
    return str(found.version) if found else None


def sql(server: Server, statement: str, *values: object) -> None:
    import psycopg

    with psycopg.connect(server.database) as connection:
        assert connection.execute(statement, values).rowcount == 1


def test_the_life_of_a_champion(server: Server, tmp_path: Path) -> None:
    config, layout = make_config(server.uri), checkout(tmp_path)
    register(config, layout, 1)
    with open_registry(config, layout) as registry:
        assert promoted(registry) == "promoted"
        assert champion(registry) == "1"

        set_data(layout, "2" * 32)
        register(config, layout, 2, Outcome(tail=0.4, head=0.1))
        assert promoted(registry) == "promoted"
        register(config, layout, 3, Outcome(tail=0.45, head=-0.2))
        refused = decide(registry, judge(registry))
        assert (refused.decision, refused.champion, champion(registry)) == ("refused", "2", "2")
        assert refused.reasons[0].startswith("Head over baseline, likelihood/nll: -0.2")
        assert [name.split(",")[0] for name in refused.reasons] == ["Head over baseline", "Head over champion"]

        back = rollback(registry, reason="complaints")
        assert (back.version, back.before, champion(registry)) == ("1", "2", "1")
        with pytest.raises(PromotionError, match="no earlier champion"):
            rollback(registry)
        assert check(PromotionLog(registry)) == []

        assert [made.version for made in forward(registry, "1" * 8)] == ["1"]
        assert [made.version for made in forward(registry, "2" * 8)] == ["3", "2"]
        assert backward(registry, "@champion")["outputs"] == {"data/annotated": "1" * 32 + ".dir"}
        assert [row["decision"] for row in backward(registry, "1")["decisions"]] == ["promoted", "rolled_back"]
        head = PromotionLog(registry).entries()[-1].mark
    command.verify_log(config, layout, head)
    tampered(server, config, layout, head)


def tampered(server: Server, config: Config, layout: Layout, head: str) -> None:
    """Whoever can write to the database itself cannot change, remove or move an entry unseen."""
    stored = entries(server)
    forged = stored["entry.000002"].replace('"refused"', '"promoted"')
    moved = stored["entry.000001"].replace('"seq":1', '"seq":2')
    for statement, values, said in (
        ("UPDATE params SET value = %s WHERE key = 'entry.000002'", (forged,), "entry 2 or 3 was changed"),
        ("UPDATE params SET value = %s WHERE key = 'entry.000002'", (moved,), "entry 2 does not follow"),
        ("UPDATE params SET value = %s WHERE key = 'entry.000002'", (stored["entry.000001"],), "is not as it was written"),
        ("DELETE FROM params WHERE key = 'entry.000001'", (), "entry 1 was removed"),
        ("DELETE FROM params WHERE key = 'entry.000003'", (), "entry 3 is not in the log as the registered model notes"),
    ):
        sql(server, statement, *values)
        with pytest.raises(PromotionError, match=said):
            command.verify_log(config, layout, None)
        restore(server, stored)
    command.verify_log(config, layout, head)
    with pytest.raises(PromotionError, match="as you give"):
        command.verify_log(config, layout, "3:" + "0" * 64)


def entries(server: Server) -> dict[str, str]:
    import psycopg

    with psycopg.connect(server.database) as connection:
        return dict(connection.execute("SELECT key, value FROM params WHERE key LIKE 'entry.%'").fetchall())


def restore(server: Server, stored: dict[str, str]) -> None:
    import psycopg

    with psycopg.connect(server.database) as connection:
        run = connection.execute("SELECT run_uuid FROM params WHERE key = 'entry.000000'").fetchone()
        assert run is not None
        connection.execute("DELETE FROM params WHERE key LIKE 'entry.%'")
        for key, value in stored.items():
            connection.execute("INSERT INTO params (key, value, run_uuid) VALUES (%s, %s, %s)", (key, value, run[0]))


def test_a_person_agrees_or_refuses(server: Server, tmp_path: Path) -> None:
    config, layout = make_config(server.uri, "approved", approval=True), checkout(tmp_path)
    register(config, layout, 1)
    with open_registry(config, layout) as registry:
        proposal = judge(registry)
        with pytest.raises(PromotionError, match="waits for a person"):
            decide(registry, proposal)
        refused = decide(registry, proposal, Approval(False, "reviewer", "the card says too little"))
        assert (refused.decision, refused.approval) == ("refused", {"by": "reviewer", "reason": "the card says too little"})
        agreed = decide(registry, judge(registry), Approval(True, "reviewer"))
        assert (agreed.decision, champion(registry)) == ("promoted", "1")
        registry.client.set_model_version_tag("approved", "1", "manifest", "0" * 64)
        with pytest.raises(ModelError, match=r"manifest\.json' has changed"):
            load_registered(config, layout, "models:/approved@champion")


PROMOTER = """
import sys, time
from pathlib import Path
from tailmark.config import load_config
from tailmark.errors import PromotionError
from tailmark.layout import Layout
from tailmark.register.promote import decide, judge
from tailmark.register.registry import open_registry

version, meet, other = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
with open_registry(load_config(Path("params.yaml")), Layout(Path.cwd())) as registry:
    proposal = judge(registry, version)
    meet.touch()
    while not other.exists():
        time.sleep(0.001)
    try:
        print("decided", decide(registry, proposal).decision)
    except PromotionError as error:
        print("told", error.what)
"""


def test_two_promotions_at_once_one_wins_and_the_other_is_told(server: Server, tmp_path: Path) -> None:
    config, layout = make_config(server.uri, "contested"), checkout(tmp_path)
    for seed in (1, 2):
        register(config, layout, seed)
    params = {"taxonomy": {"file": str(config.taxonomy.file)}, "register": {"model_name": "contested"}, "tracking": {"uri": server.uri}}
    (tmp_path / "params.yaml").write_text(json.dumps(params))
    meets = [tmp_path / name for name in ("first", "second")]
    processes = [
        subprocess.Popen([sys.executable, "-c", PROMOTER, version, str(mine), str(other)], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        for version, mine, other in (("1", *meets), ("2", *meets[::-1]))
    ]
    said = [process.communicate(timeout=120)[0].splitlines()[-1] for process in processes]
    assert sorted(line.split()[0] for line in said) == ["decided", "told"], said
    winner = str(1 + next(place for place, line in enumerate(said) if line == "decided promoted"))
    assert "The champion changed while version" in next(line for line in said if line.startswith("told"))
    with open_registry(config, layout) as registry:
        assert champion(registry) == winner
        assert [entry.version for entry in PromotionLog(registry).entries()] == [winner]
        assert check(PromotionLog(registry)) == []


def test_what_the_gate_needs_and_the_evaluation_lacks_is_named(server: Server, tmp_path: Path) -> None:
    config = make_config(server.uri, "lacking", decontaminated=["humaneval"])
    layout = checkout(tmp_path, {"humaneval": {"texts": 3, "rows": 1}})
    register(config, layout, 1)
    checkout(tmp_path, {"mbpp": {"texts": 3, "rows": 1}})
    with open_registry(config, layout) as registry:
        assert promoted(registry) == "promoted"
        register(config, layout, 2, Outcome(tail=0.5, first=30, modes=("fixed",)))
        failed = {item.title.split(",")[0]: item for item in judge(registry).verdict.checks if not item.passed}
    assert [*failed] == ["Decontamination", "Markers absent", "Tail over champion", "Head over champion", "Markers absent over champion"]
    assert "not checked against humaneval" in failed["Decontamination"].said
    assert "name 'inferred' in `evaluate.modes`" in failed["Markers absent"].fix
    assert "only 5 tail texts were scored by both" in failed["Tail over champion"].said
    assert "raise `evaluate.likelihood_rows`" in failed["Tail over champion"].fix


def test_a_pickle_among_the_artifacts_is_refused_and_not_run(server: Server, tmp_path: Path) -> None:
    config, layout = make_config(server.uri, "attacked"), checkout(tmp_path)
    register(config, layout, 1)
    ran = tmp_path / "ran"
    pickle = b"cposix\nsystem\n(S'touch " + str(ran).encode() + b"'\ntR."
    with open_registry(config, layout) as registry:
        stored = Path(registry.resolve("1").source.removeprefix("file://"))
        for name in ("artifacts/marked/pytorch_model.bin", "artifacts/marked/model.json", "python_model.pkl"):
            (stored / name).write_bytes(pickle)
            with pytest.raises(ModelError, match=r"was added later|does not belong there"):
                load_registered(config, layout, "models:/attacked@challenger")
            (stored / name).unlink()
        assert load_registered(config, layout, "@challenger").info.arm == "marked"
        copy = copy_of(registry, registry.resolve("1")) / "artifacts" / "marked" / "config.json"
        copy.write_text(copy.read_text() + " ")
        with pytest.raises(ModelError, match=r"config\.json' has changed"):
            load_registered(config, layout, "@challenger")
        assert load_registered(config, layout, "1").info.arm == "marked"
        assert not ran.exists()

        shutil.rmtree(layout.state / "registry")
        weights = stored / "artifacts" / "marked" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-8] + b"\0" * 8)
        entry = decide(registry, judge(registry))
        assert (entry.decision, champion(registry)) == ("refused", None)
        assert "'artifacts/marked/model.safetensors' has changed" in entry.reasons[0]


def test_an_alias_moved_by_hand_is_told_and_put_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, layout = make_config(), checkout(tmp_path)
    for seed in (1, 2):
        register(config, layout, seed, Outcome(tail=0.2 * seed))
    with open_registry(config, layout) as registry:
        assert promoted(registry, "1") == "promoted"
        registry.client.set_registered_model_alias("tailmark", "champion", "2")
        with pytest.raises(PromotionError, match="names version 2, the promotion log version 1"):
            judge(registry, "2")
        with pytest.raises(PromotionError, match="the alias 'champion' is not where"):
            command.verify_log(config, layout, None)
        command.settle_log(config, layout)
        assert champion(registry) == "1"
    assert command.promote(config, layout, "2", approved_by=None, dry_run=False, as_json=False)
    shown = capsys.readouterr().out
    assert "holds  Tail over champion, likelihood/nll: +0.2" in shown
    page = (layout.state / "promotion" / "version-2" / "verdict.html").read_text()
    assert "Version 2 may become the champion" in page
    assert "http" not in page
    assert read_json(layout.state / "promotion" / "version-2" / "verdict.json")["passed"] is True
    with open_registry(config, layout) as registry:
        for reference, said in (
            ("models:/tailmark@nobody", "no registered version"),
            ("7", "no registered version"),
            ("a b", "does not name"),
        ):
            with pytest.raises(TrackingError, match=said) as raised:
                registry.resolve(reference)
            assert raised.value.fix
        with pytest.raises(TrackingError, match="No version of tailmark was made from"):
            forward(registry, "abcdef")


def test_on_a_log_that_was_cut_off_nothing_is_built(tmp_path: Path) -> None:
    config, layout = make_config(), checkout(tmp_path)
    with pytest.raises(TrackingError, match="dvc repro register"):
        command.settle_log(config, layout)
    register(config, layout, 1)
    with open_registry(config, layout) as registry:
        assert promoted(registry) == "promoted"
        client, log = registry.client, PromotionLog(registry)
        head, run = log.entries()[-1].mark, log._open()
        client.set_model_version_tag("tailmark", "1", "promotion_log.head", "x")  # no note by its form
        assert check(log, head) == []
        register(config, layout, 2, Outcome(tail=0.5))
        experiment = client.get_experiment_by_name("tailmark promotions").experiment_id
        client.rename_experiment(experiment, "elsewhere")
        for attempt in (lambda: judge(registry, "2"), lambda: settle(registry), lambda: rollback(registry), log._open):
            with pytest.raises(PromotionError, match="Entry 0 is not in the promotion log"):
                attempt()
        assert champion(registry) == "1"
        assert client.get_registered_model("tailmark").tags["promotion_log.head"] == head
        client.rename_experiment(experiment, "tailmark promotions")
        client.delete_run(run)
        with pytest.raises(PromotionError, match=f"mlflow runs restore --run-id {run}"):
            command.verify_log(config, layout, None)
        client.restore_run(run)
        assert promoted(registry, "2") == "promoted"
    command.verify_log(config, layout, head)


def test_a_new_report_of_the_data_is_another_version(tmp_path: Path) -> None:
    config, layout = make_config(decontaminated=["humaneval"]), checkout(tmp_path)
    register(config, layout, 1)
    checkout(tmp_path, {"humaneval": {"texts": 3, "rows": 0}})
    assert register(config, layout, 1) == "2"
    assert register(config, layout, 1) == "2"
    with open_registry(config, layout) as registry:
        assert promoted(registry) == "promoted"
