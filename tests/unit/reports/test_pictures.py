"""The page and plots as files, for MLflow's artifacts."""

import xml.etree.ElementTree as ET
from dataclasses import replace

from tests.unit.reports import sample

from modelyard.reports.pictures import VERDICTS, canary_pictures, pictures


def test_a_version_carries_its_verdicts_confusion_calibration_and_pareto_plot():
    files = pictures(sample.view(good=True))
    assert set(files) == {VERDICTS, "confusion.svg", "calibration.svg", "pareto.svg"}
    assert "accuracy" in files[VERDICTS]
    for name, text in files.items():
        if name.endswith(".svg"):
            assert ET.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"


def test_what_is_not_known_has_no_picture():
    bare = replace(sample.view(), served=None, evaluation=None, compression=None)
    assert set(pictures(bare)) == {VERDICTS}


def test_an_attempt_that_has_ended_has_a_picture_of_its_evidence_and_the_bounds():
    attempt = sample.view(good=False).rollout
    (text,) = canary_pictures(attempt).values()
    assert ET.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert "enough for" in text


def test_an_attempt_without_traffic_has_none():
    attempt = sample.view().rollout
    bare = replace(attempt, status=replace(attempt.status, timeline=(), analysis={}))
    assert canary_pictures(bare) == {}
