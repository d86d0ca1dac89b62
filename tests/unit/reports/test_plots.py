"""What each plot shows."""

import dataclasses
import re

import pytest
from tests.unit.reports import sample

from modelyard.reports import canary, plots
from modelyard.reports.canvas import COLOURS


def words(drawn: str) -> str:
    return " ".join(re.findall(r">([^<>]+)</text>", drawn))


@pytest.fixture(scope="module")
def attempt():
    return sample.rollout()


@pytest.fixture(scope="module")
def drawn_plots(attempt) -> dict[str, str]:
    return {
        "balance": plots.balance(sample.data_report()["balance"]),
        "curves": plots.curves(sample.trained()),
        "confusion": plots.confusion(sample.evaluation(0.9, seed=1, model="m")),
        "calibration": plots.calibration(sample.evaluation(0.9, seed=1, model="m").calibration),
        "strip": plots.strip(low=0.1, value=0.2, high=0.3, limit=0.0, above_is_good=True, colour=next(iter(COLOURS))),
        "pareto": plots.pareto(sample.compression()),
        "canary": canary.weights_and_evidence(attempt),
    }


def test_every_colour_follows_the_page(drawn_plots):
    for name, drawn in drawn_plots.items():
        colours = set(re.findall(r"#[0-9a-f]{6}\b", re.sub(r"var\(--\w+, #[0-9a-f]{6}\)", "", drawn)))
        assert colours == set(), name
        assert not any(stand_in in drawn for stand_in in COLOURS)


def test_every_plot_says_what_it_is_to_those_who_hear_the_page(drawn_plots):
    for drawn in drawn_plots.values():
        assert re.match(r'<svg(?: class="wide")? viewBox="0 0 \d+ \d+" role="img" aria-label="[^"]{8,}"', drawn)


def test_a_plot_is_the_same_bytes_each_time():
    assert plots.pareto(sample.compression()) == plots.pareto(sample.compression())


def test_the_pareto_plot_names_each_variant_and_the_budget():
    shown = words(plots.pareto(sample.compression()))
    for name in ("fp32", "onnx-int8", "onnx", "torchscript", "bf16", "budget 0.02"):
        assert name in shown
    assert "aot" not in shown  # it failed: there is no point to draw


def test_no_name_in_the_pareto_plot_covers_another():
    close = sample.compression()
    variants = tuple(dataclasses.replace(one, p50_ms=0.1 + at / 1000) for at, one in enumerate(close.variants))
    drawn = plots.pareto(dataclasses.replace(close, variants=variants))
    names = {one.name for one in variants}
    found = re.findall(r'<text [^>]*x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]+)</text>', drawn)
    placed = [(float(x), float(y), name) for x, y, name in found if name in names]
    assert len(placed) == 5
    for at, (x, y, name) in enumerate(placed):
        for other_x, other_y, other in placed[at + 1 :]:
            apart = abs(y - other_y) >= 11 or x + 6 * len(name) <= other_x or other_x + 6 * len(other) <= x
            assert apart, (name, other)


def test_there_is_no_pareto_plot_without_a_budget_or_without_variants():
    report = sample.compression()
    assert plots.pareto(dataclasses.replace(report, max_drop={})) is None
    assert plots.pareto(dataclasses.replace(report, variants=report.variants[:1])) is None


def test_the_weights_are_the_steps_that_the_router_confirmed(attempt):
    assert [weight for _, weight in canary.weights_of(attempt)] == [0, 5, 0]
    assert [weight for _, weight in canary.weights_of(sample.rollout(errors=0.002, slow_ms=6.0))] == [0, 5, 50, 100]


def test_the_canary_plot_shows_both_arms_and_the_bounds_of_the_evidence(attempt):
    shown = words(canary.weights_and_evidence(attempt))
    for word in ("stable", "canary", "rolled back", "error-rate", "latency-p90", "200×", "24×"):
        assert word in shown


def test_an_attempt_without_weights_or_evidence_has_no_plot(attempt):
    bare = dataclasses.replace(attempt, status=dataclasses.replace(attempt.status, timeline=(), analysis={}))
    assert canary.weights_and_evidence(bare) is None


def test_many_classes_still_fit():
    classes = tuple(f"class number {at}" for at in range(60))
    report = sample.evaluation(0.8, seed=4, model="many", examples=600, classes=classes)
    assert "class number" not in words(plots.confusion(report))
    spread = {"train": {name: at + 1 for at, name in enumerate(classes)}}
    assert len(re.findall("class number", words(plots.balance(spread)))) == plots.MOST_CLASSES
