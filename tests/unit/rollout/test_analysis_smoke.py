"""The first way through the analysis: as good is Successful, bad is Failed."""

import random

from modelyard.rollout import analysis
from modelyard.rollout.observation import Counts
from modelyard.spec.codec import from_json, to_json
from modelyard.spec.deployment import Analysis


def _counts(at: float, requests: int, errors: int, slow: int = 0) -> Counts:
    bounds = analysis.LATENCY_BOUNDS_MS
    row = tuple(0 if bound < 5 else requests - slow if bound < 100 else requests for bound in bounds)
    return Counts(at=at, requests=requests, errors=errors, latency=(*row, requests), bounds=bounds)


def _run(error_rate: float, seed: int = 1) -> tuple[analysis.Evidence, object]:
    rng = random.Random(seed)
    spec = Analysis()
    evidence = analysis.begin(spec, now=0.0)
    errors = 0
    for look in range(1, 2000):
        errors += sum(rng.random() < error_rate for _ in range(10))
        stable, canary = _counts(look, 1000 + 10 * look, 0), _counts(look, 10 * look, errors)
        evidence = analysis.look(evidence, spec, now=look, stable=stable, canary=canary)
        answer = analysis.verdict(evidence, spec, now=look)
        if answer is not None:
            return evidence, answer
    return evidence, None


def test_a_canary_as_good_as_stable_is_successful():
    assert _run(0.0)[1].outcome == "Successful"


def test_a_canary_that_fails_every_fifth_request_is_failed_and_named():
    answer = _run(0.2)[1]
    assert answer.outcome == "Failed"
    assert answer.reason == "ErrorRate"


def test_evidence_survives_a_checkpoint():
    evidence, _ = _run(0.0)
    text = to_json(evidence)
    assert from_json(analysis.Evidence, text) == evidence
    assert to_json(from_json(analysis.Evidence, text)) == text
