"""Which variant serves: the best by the objective among those that provably lose little enough.

Pure. A variant is eligible when nothing failed, the upper bound of each budgeted drop is within the budget, and it
is better than the reference by more than the noise of the measurement. Whose cost lies within the noise of the best
one's ties with it; of tied ones the least lossy is taken, then the smallest.
"""

from collections.abc import Sequence
from dataclasses import replace

from modelyard.compression.report import REFERENCE, VariantResult
from modelyard.record import record
from modelyard.spec.gates import Compress


@record
class Choice:
    """What serves and why; `variants` are the results with their notes."""

    name: str
    reason: str
    variants: tuple[VariantResult, ...]


def choose(results: Sequence[VariantResult], spec: Compress, *, examples: int) -> Choice:
    """Choose among `results`, of which one is the reference.

    Args:
        results: all variants, measured or failed.
        spec: budget and objective.
        examples: how many the drops were measured on, for the messages.
    """
    judged = [replace(result, within_budget=_within(result, spec, examples)) for result in results]
    eligible = [result for result in judged if result.name != REFERENCE and _objection(result, spec, examples) is None]
    best = _best(eligible, spec)
    name = best.name if best else REFERENCE
    notes = {result.name: _note(result, best, spec, examples) for result in judged}
    return Choice(
        name=name,
        reason=_reason(best, judged, spec),
        variants=tuple(replace(result, note=notes[result.name]) for result in judged),
    )


def _within(result: VariantResult, spec: Compress, examples: int) -> bool:
    if result.name == REFERENCE:
        return result.failure is None
    return _too_lossy(result, spec, examples) is None


def _too_lossy(result: VariantResult, spec: Compress, examples: int) -> str | None:
    """Why a variant is not known to be within the budget."""
    if result.failure is not None:
        return f"failed: {result.failure}"
    if not spec.max_drop:
        return "no maxDrop says what may be lost, so nothing may"
    for metric, allowed in spec.max_drop.items():
        drop = result.drop.get(metric)
        if drop is None:
            return f"its drop in {metric} is unknown"
        if not drop.high <= allowed:  # so that a NaN stays out
            least = f"{drop.value:+.4f} measured on {examples} examples"
            return f"{metric} may drop by {drop.high:.4f} > {allowed:g} ({least})"
    return None


def _objection(result: VariantResult, spec: Compress, examples: int) -> str | None:
    """What speaks against a variant, regardless of the others."""
    lossy = _too_lossy(result, spec, examples)
    if lossy is not None:
        return lossy
    if result.ratio is None or not result.ratio.high < 1:
        by = "unknown" if result.ratio is None else _ratio(result)
        return f"no better than {REFERENCE} beyond noise: {spec.objective} {by}"
    return None


def _best(eligible: Sequence[VariantResult], spec: Compress) -> VariantResult | None:
    if not eligible:
        return None
    first = min(eligible, key=_cost)
    assert first.ratio is not None
    tied = [result for result in eligible if _cost(result) <= first.ratio.high]
    return min(tied, key=lambda result: (_worst_drop(result, spec), result.bytes or 0, _cost(result), result.name))


def _cost(result: VariantResult) -> float:
    assert result.ratio is not None
    return result.ratio.value


def _worst_drop(result: VariantResult, spec: Compress) -> float:
    return max(result.drop[metric].high for metric in spec.max_drop)


def _ratio(result: VariantResult) -> str:
    assert result.ratio is not None
    return f"{result.ratio.value:.2f} [{result.ratio.low:.2f}, {result.ratio.high:.2f}] × {REFERENCE}"


def _note(result: VariantResult, best: VariantResult | None, spec: Compress, examples: int) -> str:
    if result.name == REFERENCE:
        return "the reference" if best else "the reference; chosen, since no variant is better within the budget"
    objection = _objection(result, spec, examples)
    if objection is not None:
        return objection
    assert best is not None
    if result.name == best.name:
        return f"chosen: {spec.objective} {_ratio(result)}"
    return f"within the budget; {spec.objective} {_ratio(result)}, {best.name} has {_ratio(best)}"


def _reason(best: VariantResult | None, judged: Sequence[VariantResult], spec: Compress) -> str:
    if best is not None:
        drops = ", ".join(f"{metric} drops by at most {best.drop[metric].high:.4f} ≤ {allowed:g}"
                          for metric, allowed in spec.max_drop.items())  # fmt: skip
        return f"{best.name}: {spec.objective} {_ratio(best)}; {drops}"
    if len(judged) == 1:
        return f"{REFERENCE}: there was no other variant to choose"
    if not spec.max_drop:
        return f"{REFERENCE}: no maxDrop says what may be lost, so nothing may"
    return f"{REFERENCE}: no variant is within the budget and better than it by {spec.objective} beyond noise"
