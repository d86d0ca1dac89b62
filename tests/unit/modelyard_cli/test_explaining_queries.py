"""`rollout explain` of metrics that a query counts: shares as shares, means as means, and what is missing."""

from dataclasses import replace
from pathlib import Path

from tests.unit.modelyard_cli.test_explaining import kept
from tests.unit.reports import sample
from tests.unit.rollout.test_pairs import MEAN, Pair, fed, rolled, spec_of

from modelyard.reports.canary import weights_and_evidence
from modelyard.rollout.explain import standings
from modelyard.spec.codec import to_data
from modelyard.spec.rollout import ModelRollout

from .conftest import Command


def attempt(evidence, analysis) -> ModelRollout:
    """An attempt with this evidence."""
    one = sample.rollout()
    start = one.status.started_at
    shifted = replace(evidence, history=tuple(replace(mark, at=start + mark.at) for mark in evidence.history))
    spec = replace(one.spec, serving=replace(one.spec.serving, analysis=analysis), steps=())
    return replace(one, spec=spec, status=replace(one.status, step=0, analysis=to_data(shifted)))


def test_a_mean_is_told_and_drawn_in_its_own_unit(folder: Path, command: Command, tmp_path: Path) -> None:
    spec = spec_of(MEAN, "10%")
    one = attempt(rolled(0.1, 0.9, spec=spec, values=(0.2, 0.8), looks=40), spec)
    kept(folder, one)
    said = command("rollout", "explain", "-p", folder, "--to", tmp_path / "mean.svg")
    assert said.exit_code == 0, said.stderr
    assert "mean 3." in said.stdout
    assert "mean 2." in said.stdout
    assert "+0.4" in said.stdout
    assert "refunds: worse than stable, and beyond the margin" in said.stdout
    assert "mean of what a query adds up" in str(weights_and_evidence(one))


def test_what_is_missing_now_is_said() -> None:
    spec = spec_of()
    (nothing,) = standings(attempt(fed([(Pair(total=10, bad=0), None)], spec), spec))
    assert nothing.words == "nothing was compared yet; nothing was counted of the canary"
    evidence = rolled(0.02, 0.02, looks=6)
    gone = replace(evidence, missing={"refunds": "total gives nothing for arm a1"})
    (stand,) = standings(attempt(gone, spec))
    assert stand.words.endswith("; now total gives nothing for arm a1")
