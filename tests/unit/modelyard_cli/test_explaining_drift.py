"""`rollout explain` of a canary that predicts other classes than stable: how far, and which."""

from dataclasses import replace
from pathlib import Path

from tests.unit.modelyard_cli.test_explaining import kept
from tests.unit.reports import sample
from tests.unit.rollout.test_drift import DRIFT, EVEN, FAR, rolled

from modelyard.reports.canary import weights_and_evidence
from modelyard.rollout.explain import standings
from modelyard.spec.codec import to_data
from modelyard.spec.rollout import ModelRollout

from .conftest import Command


def attempt(canary: dict[str, float], looks: int) -> ModelRollout:
    """An attempt whose canary predicts these classes."""
    one = sample.rollout()
    analysis = replace(one.spec.serving.analysis, metrics=(DRIFT,), guardrails=())
    serving = replace(one.spec.serving, analysis=analysis)
    evidence, _ = rolled(EVEN, canary, spec=analysis, looks=looks, per_look=(95, 5))
    start = one.status.started_at
    shifted = replace(evidence, history=tuple(replace(mark, at=start + mark.at) for mark in evidence.history))
    spec = replace(one.spec, serving=serving, steps=())
    return replace(one, spec=spec, status=replace(one.status, step=0, analysis=to_data(shifted)))


def test_it_says_how_far_and_which_class(folder: Path, command: Command, tmp_path: Path) -> None:
    kept(folder, attempt(FAR, 40))
    said = command("rollout", "explain", "-p", folder, "--to", tmp_path / "drift.svg")
    assert said.exit_code == 0, said.stderr
    assert "% away in" in said.stdout
    assert "prediction-drift: other than stable (most: 'a'," in said.stdout
    assert "failed" not in said.stdout.partition("\n")[2]
    assert (tmp_path / "drift.svg").read_text().startswith("<svg")


def test_the_plot_shows_one_line_for_the_distance() -> None:
    drawn = str(weights_and_evidence(attempt(EVEN, 40)))
    assert "distance of the predicted classes" in drawn
    assert ">stable<" not in drawn


def test_before_anything_was_compared_it_says_why() -> None:
    (stand,) = standings(attempt(EVEN, 0))
    assert stand.words.startswith("nothing was compared yet; no answer named a class")
