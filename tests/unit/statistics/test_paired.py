"""Comparisons on the same examples, and how many examples would do."""

import numpy as np
import pytest
from scipy import stats

from modelyard.errors import BadInput
from modelyard.statistics.intervals import tango
from modelyard.statistics.paired import discordant, holm, mcnemar
from modelyard.statistics.power import for_difference, for_paired_accuracy


def test_discordant_pairs_are_counted():
    pairs = discordant([True, True, False, False, True], [True, False, True, True, True])
    assert (pairs.gained, pairs.lost, pairs.total) == (1, 2, 5)
    assert pairs.difference == pytest.approx(-0.2)


def test_results_on_different_examples_are_refused():
    with pytest.raises(BadInput, match="same examples"):
        discordant([True], [True, False])


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (5, 0), (70, 3), (8, 11), (3, 9)])
def test_mcnemar_is_the_exact_binomial_test(gained, lost):
    expected = stats.binomtest(gained, gained + lost, alternative="greater").pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(expected, rel=1e-9)


def test_holm_rejects_step_by_step():
    """p-values 0.01, 0.02, 0.04 at 0.05: against 0.05/3, 0.05/2, 0.05/1, so all fall; Bonferroni would keep two."""
    values = {"a": 0.01, "b": 0.02, "c": 0.04}
    assert sorted(holm(list(values), lambda name, level: values[name] <= level, 0.05)) == ["a", "b", "c"]
    values["b"] = 0.03
    assert holm(list(values), lambda name, level: values[name] <= level, 0.05) == ["a"]


def test_the_number_of_examples_that_would_do_does():
    """At that number, an equally good candidate passes in about 80 % of all draws."""
    needed = for_paired_accuracy(0.04, 0.02)
    assert needed is not None
    draws = np.random.default_rng(0).multinomial(needed, [0.02, 0.02, 0.96], size=400)
    passed = np.mean([tango(int(g), int(b), needed).low >= -0.02 for g, b, _ in draws])
    assert 0.74 < passed < 0.88


def test_no_number_of_examples_shows_what_lies_on_the_limit():
    assert for_difference(0.1, 0.0) is None
    assert for_difference(0.1, -1.0) is None
    assert for_difference(float("nan"), 1.0) is None
    assert for_difference(0.25, 1e-9) is None
