"""How much worse a variant is than the reference on the same examples, with the interval that they leave."""

from collections.abc import Mapping, Sequence

from modelyard.compression.report import Estimate
from modelyard.evaluation.measure import difference
from modelyard.evaluation.report import EvaluationReport


def drops(
    variant: EvaluationReport, reference: EvaluationReport, metrics: Sequence[str], *, confidence: float
) -> Mapping[str, Estimate]:
    """The drop in each metric: above 0 is worse, also where less is better.

    Args:
        variant: what the variant answered.
        reference: what the uncompressed model answered on the same examples.
        metrics: which to compare.
        confidence: that the drop is at most `high`; one-sided, so the interval is a two-sided one at 2c - 1.
    """
    found = {}
    for metric in metrics:
        gain = difference(variant, reference, metric, confidence=2 * confidence - 1)
        found[metric] = Estimate(value=0.0 - gain.value, low=0.0 - gain.high, high=0.0 - gain.low)
    return found
