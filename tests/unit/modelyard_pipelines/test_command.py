"""`modelyard pipeline …` against a server that speaks Kubeflow's API, and against what stands there instead of one."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tests.fakes.kfp_server import serving
from tests.unit.modelyard_pipelines.projects import TEXT, compiled_once
from typer.testing import CliRunner, Result

from modelyard_cli import pipeline
from modelyard_cli.main import app
from modelyard_pipelines import compiling, wiring

Command = Callable[..., Result]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No server, token or setting of this machine's."""
    for name in (
        "KF_PIPELINES_ENDPOINT",
        "KF_PIPELINES_TOKEN",
        "KUBERNETES_SERVICE_HOST",
        "KF_PIPELINES_SA_TOKEN_PATH",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(pipeline, "SECONDS", 0.01)


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where code goes; the pipelines' structure is the same in all tests, so that each is compiled once."""
    put = wiring.put_code
    monkeypatch.setattr(wiring, "put_code", lambda archive, _store: put(archive, str(tmp_path / "store")))
    monkeypatch.setattr(compiling, "compiled", lambda _project, name: compiled_once(name))
    # what Kubeflow's client reads a file with, by libyaml: half of these tests' time went into its own parser
    monkeypatch.setattr(yaml, "safe_load_all", lambda stream: yaml.load_all(stream, yaml.CSafeLoader))
    return tmp_path / "store"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "digits"
    made.mkdir()
    (made / "recipe.py").write_text("class Recipe: ...\n")
    (made / "modelyard.yaml").write_text(TEXT)
    return made


@pytest.fixture
def command(folder: Path) -> Command:
    def called(*words: object, project: bool = True) -> Result:
        given = [str(word) for word in words] + (["--project", str(folder)] if project else [])
        return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["pipeline", *given])

    return called


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("1.x", "is Kubeflow Pipelines 1.x, which cannot run this pipeline. Upgrade it to 2.x"),
        ("login page", "answers with a page, most likely a login. Set KF_PIPELINES_TOKEN"),
        ("redirect to a login", "answers with a page at /dex/auth, most likely a login. Set KF_PIPELINES_TOKEN"),
        ("refuses", "refuses us (403). Set KF_PIPELINES_TOKEN"),
        ("something else", "is no Kubeflow Pipelines server (no /apis/v2beta1). Correct --endpoint"),
    ],
)
def test_what_is_no_server_for_this_is_told_with_the_way_out_and_nothing_was_put_anywhere(
    kind, told, command, tmp_path
):
    with serving(kind) as server:
        said = command("run", "--endpoint", server.host)
    assert said.exit_code in (1, 2)
    assert told in said.stderr
    assert not (tmp_path / "store").exists()


def test_no_server_named_is_told_with_the_usual_one(command):
    said = command("run")
    assert said.exit_code == 2
    assert "kubectl port-forward -n kubeflow svc/ml-pipeline 8888:8888" in said.stderr


def test_a_compiled_file_that_was_edited_is_refused_before_the_server_is_asked(command, tmp_path):
    path = tmp_path / "pipeline.yaml"
    assert command("compile", "--to", path).exit_code == 0
    path.write_text(path.read_text().replace("enableCache: true", "enableCache: false", 1))
    said = command("run", "--file", path, "--endpoint", "http://127.0.0.1:9")
    assert said.exit_code == 1
    assert "was edited after it was compiled" in said.stderr
    assert "compile again" in said.stderr


def test_a_run_gets_the_file_s_sections_and_the_digest_of_code_that_lies_in_the_store(command, tmp_path):
    with serving(token="secret") as server:
        said = command("run", "--endpoint", server.host, "--set", "train.epochs=5", "--no-cache", "-o", "json")
        assert said.exit_code == 1  # without the token
        runner = CliRunner(env={"KF_PIPELINES_TOKEN": "secret"})
        words = ["--endpoint", server.host, "--set", "train.epochs=5", "--no-cache", "-o", "json"]
        said = runner.invoke(app, ["pipeline", "run", *words, "-p", str(tmp_path / "digits")])
        assert said.exit_code == 0, said.stderr
        (sent,) = server.runs
    assert json.loads(said.stdout) == {"run": "run-1", "page": f"{server.host}/#/runs/details/run-1"}
    given = sent["runtime_config"]["parameters"]
    assert given["train"]["epochs"] == 5
    assert given["model"] == "digits"
    (code,) = (tmp_path / "store" / "code").glob("*.tar")
    assert given["code"] == f"sha256:{code.stem}"
    assert "enableCache': True" not in str(sent)


def test_a_schedule_is_a_recurring_run_that_catches_nothing_up(command):
    with serving() as server:
        said = command("schedule", "--cron", "0 0 3 * * *", "--endpoint", server.host)
        assert said.exit_code == 0, said.stderr
        (sent,) = server.recurring
    assert sent["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * *"
    assert (sent["max_concurrency"], sent["no_catchup"]) == (1, True)
    assert sent["pipeline_spec"]["pipeline_spec"]["pipelineInfo"]["name"] == "retrain-on-schedule"


def test_five_fields_of_cron_are_refused_with_the_six_to_write(command):
    said = command("schedule", "--cron", "0 3 * * *")
    assert said.exit_code == 2
    assert "second minute hour day month weekday" in said.stderr


def test_uploading_again_adds_a_version_only_where_something_changed(command):
    with serving() as server:
        for changed in ([], [], ["evaluate-only"]):
            assert command("upload", *changed, "--endpoint", server.host).exit_code == 0
        versions = server.pipelines["digits-train-and-release"]
        assert len(versions) == 2  # its first, and the one named by its digest
        assert len(server.pipelines) == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["compare-recipes"], "asks for recipes. Give two --try or more"),
        (["evaluate-only"], "asks for version. Give --version"),
        (["train-and-release", "--version", "7"], "version cannot act in train-and-release"),
        (["--set", "train.recipe.with.rate=2.0"], "gives back as another value"),
        (["--set", "data.source=rows.csv"], "which no pod sees"),
        (["--file", "nowhere.yaml"], "there is no nowhere.yaml"),
    ],
)
def test_what_cannot_be_run_is_refused_before_the_server_is_asked(words, told, command):
    said = command("run", *words, "--endpoint", "http://127.0.0.1:9")
    assert said.exit_code == 2
    assert told in said.stderr


def test_recipes_to_compare_are_the_file_s_with_changes(command):
    tries = ["--try", "train.epochs=5", "--try", "train.epochs=6 train.optimizer.lr=0.5", "--by", "accuracy"]
    with serving() as server:
        said = command("run", "compare-recipes", *tries, "--endpoint", server.host)
        assert said.exit_code == 0, said.stderr
        given = server.runs[0]["runtime_config"]["parameters"]
    assert [one["epochs"] for one in given["recipes"]] == [5, 6]
    assert given["by"] == "accuracy"
    assert "train" not in given


def details(*tasks: tuple[str, str], state: str) -> dict:
    told = [{"display_name": name, "state": said} for name, said in tasks]
    return {"run_id": "run-1", "state": state, "run_details": {"task_details": told}}


@pytest.mark.parametrize(
    ("last", "state", "code"),
    [
        (("promote", "SUCCEEDED"), "SUCCEEDED", 0),
        (("train", "FAILED"), "FAILED", 1),
        (("skipped after gate", "SUCCEEDED"), "SUCCEEDED", 3),
        (("inconclusive after compress", "SUCCEEDED"), "SUCCEEDED", 4),
    ],
    ids=["released", "failed", "skipped after gate", "inconclusive"],
)
def test_watching_ends_as_the_run_does(last, state, code, command):
    with serving() as server:
        begun = details(("look", "RUNNING"), state="RUNNING")
        server.states = [begun, begun, details(("look", "SUCCEEDED"), last, state=state)]
        said = command("watch", "run-1", "--endpoint", server.host, project=False)
    assert said.exit_code == code, said.stderr
    lines = said.stdout.splitlines()
    assert lines[:3] == ["look: RUNNING", "look: SUCCEEDED", f"{last[0]}: {last[1]}"]
    assert lines[3].startswith(state)


def test_a_run_that_is_not_there_is_told(command):
    with serving() as server:
        said = command("watch", "run-2", "--endpoint", server.host, project=False)
    assert said.exit_code == 2
    assert "knows no such thing" in said.stderr
