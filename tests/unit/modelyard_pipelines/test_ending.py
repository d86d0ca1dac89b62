"""The summary of a run: from what its steps left in MLflow, whatever became of them."""

import json
from pathlib import Path

import httpx
import pytest
from tests.fakes.artifacts import FakeArtifact

from modelyard.errors import Unavailable
from modelyard.runs.journal import StageEntry
from modelyard.runs.stages import Stage
from modelyard.spec.codec import to_data
from modelyard.verdict import Outcome, Reason, Verdict
from modelyard_pipelines import ending, wiring
from modelyard_pipelines.components.summarize import summarize
from modelyard_pipelines.tracking import JOB, PARENT, TOLD, TrackedRun


class FakeRuns:
    """The runs of one job."""

    def __init__(self, *known: TrackedRun, away: bool = False) -> None:
        self.known, self.away = known, away
        self.ended: dict[str, str] = {}
        self.tags: dict[str, str] = {}

    def of_job(self, job: str) -> tuple[TrackedRun, ...]:
        if self.away:
            raise Unavailable("MLflow is away", do="start it")
        return tuple(one for one in self.known if one.tags[JOB] == job)

    def end(self, run_id: str, status: str) -> None:
        self.ended[run_id] = status

    def log(self, run_id: str, *, tags: dict[str, str]) -> None:
        self.tags |= tags


def run(name: str, *entries: StageEntry, status: str = "FINISHED", **tags: str) -> TrackedRun:
    told = json.dumps([to_data(one) for one in entries])
    parent = {} if name == "parent" else {PARENT: "parent"}
    return TrackedRun(id=name, status=status, started_at=1.0, tags={JOB: "job-1", TOLD: told, **parent, **tags})


PREPARED = StageEntry(stage=Stage.PREPARE, message="100 train", seconds=2.0)
NO = Verdict(outcome=Outcome.FAILED, reason=Reason.OUT_OF_BOUND, message="accuracy 0.5, wanted at least 0.9")
UNSURE = Verdict(outcome=Outcome.INCONCLUSIVE, reason=Reason.TOO_FEW_EXAMPLES, message="12 examples do not decide")


class Status:
    """What Kubeflow says of the run."""

    def __init__(self, state: str, error: str | None) -> None:
        self.state, self.error_message = state, error


@pytest.fixture
def summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The Markdown and the page of a run's summary."""
    monkeypatch.setenv("MODELYARD_JOB", "job-1")

    def made(runs: FakeRuns, state: str = "SUCCEEDED", error: str | None = None, notify: str = "") -> tuple[str, str]:
        monkeypatch.setattr(wiring, "runs", lambda _model: runs)
        words, page = FakeArtifact(tmp_path, "words"), FakeArtifact(tmp_path, "page")
        summarize(model="digits", notify=notify, words=words, report=page, status=Status(state, error))
        return words.text(), page.text()

    return made


def test_a_released_version_is_the_headline(summary):
    runs = FakeRuns(
        run("parent"),
        run("prepare", PREPARED),
        run("register", **{"modelyard.version": "7", "modelyard.digest": "sha256:7"}),
        run("promote", **{"modelyard.champion": "7"}),
    )
    words, page = summary(runs)
    assert words.startswith("# digits: Version 7: champion names it")
    assert "100 train" in words
    assert "Version 7" in page
    assert runs.ended == {"parent": "FINISHED"}


@pytest.mark.parametrize(
    ("verdict", "headline"), [(NO, "The gate stage said no"), (UNSURE, "The gate stage could not decide")]
)
def test_a_gate_that_did_not_let_it_through_is_the_headline_with_both_sides(summary, verdict, headline):
    entry = StageEntry(stage=Stage.GATE, message=verdict.message, verdict=verdict)
    words, _ = summary(FakeRuns(run("parent"), run("gate", PREPARED, entry)))
    assert words.startswith(f"# digits: {headline}")
    assert verdict.message in words


def test_a_failed_run_says_why_and_what_killed_steps_left_open_is_closed(summary):
    runs = FakeRuns(
        run("parent", status="RUNNING"),
        run("prepare", PREPARED),
        run("train", status="RUNNING"),
        run("evaluate", status="FAILED", **{"modelyard.error": "There is no bucket. Correct the address."}),
    )
    words, _ = summary(runs, "FAILED", "task evaluate failed")
    assert words.startswith("# digits: Failed")
    assert "There is no bucket. Correct the address." in words
    assert runs.ended == {"parent": "FAILED", "train": "KILLED"}


def test_what_was_done_in_this_run_is_told_and_not_that_it_was_cached_for_the_next_step(summary):
    later = StageEntry(stage=Stage.PREPARE, message="100 train", seconds=2.0, cached=True)
    words, page = summary(FakeRuns(run("parent"), run("prepare", PREPARED), run("gate", later)))
    assert "taken from before" not in words
    assert "as before" not in page
    cached, page = summary(FakeRuns(run("parent"), run("gate", later)))
    assert "1 taken from before" in cached
    assert "as before" in page


def test_without_mlflow_there_is_a_summary_all_the_same(summary):
    words, _ = summary(FakeRuns(away=True), "FAILED", None)
    assert words.startswith("# digits: Failed")
    assert "MLflow is away" in words


def test_the_end_is_posted_and_an_address_that_is_away_fails_nothing(summary, monkeypatch, capsys):
    posted = []
    monkeypatch.setattr(ending.httpx, "post", lambda address, json, timeout: posted.append((address, json)) or _ok())
    entry = StageEntry(stage=Stage.GATE, message=NO.message, verdict=NO)
    summary(FakeRuns(run("parent"), run("gate", entry)), notify="http://chat/hook")
    assert posted == [
        (
            "http://chat/hook",
            {"text": f"digits: The gate stage said no. {NO.message}", "job": "job-1", "state": "Refused"},
        )
    ]

    def away(*_: object, **__: object) -> httpx.Response:
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(ending.httpx, "post", away)
    summary(FakeRuns(run("parent")), notify="http://chat/hook")
    assert "not told http://chat/hook: refused" in capsys.readouterr().out


def _ok() -> httpx.Response:
    return httpx.Response(200, request=httpx.Request("POST", "http://chat/hook"))
