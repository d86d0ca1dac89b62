"""Write the mutants as patches: small mistakes that would make a decision wrong. Run again when the code has moved.

python tests/mutants/make.py [PART…]
"""

import difflib
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLATFORM = "platform/modelyard"
MUTANTS = [
    # name, file, what stands there, what the mutant says
    ("alarm-not-shared-by-metrics", "rollout/analysis.py",
     "math.log((len(spec.metrics) + len(spec.guardrails)) / spec", "math.log((1 + len(spec.guardrails)) / spec"),
    ("alarm-without-the-margin", "rollout/analysis.py", "and trial.beyond:", "and True:"),
    ("success-of-the-best-metric", "rollout/analysis.py",
     "len(logs) == len(spec.metrics) and min(logs) >=", "len(logs) == len(spec.metrics) and max(logs) >="),
    ("success-of-some-metrics", "rollout/analysis.py",
     "if logs and len(logs) == len(spec.metrics) and", "if logs and"),
    ("success-sign-flipped", "rollout/analysis.py",
     "return -math.log(SPENT * spec.miss_rate.fraction)", "return math.log(SPENT * spec.miss_rate.fraction)"),
    ("min-requests-forgotten", "rollout/analysis.py",
     "if evidence.counted(metric.name) >= spec.min_requests]", "if True]"),
    ("max-duration-never-comes", "rollout/analysis.py",
     "if waited < spec.max_duration.seconds:", "if waited <= spec.max_duration.seconds * 9:"),
    ("late-start-forgotten", "rollout/bets.py", "RESERVE = 0.2", "RESERVE = 1e-300"),
    ("surge-forgotten", "rollout/evidence.py", "return self.excess > 0 or self.surge >= SURGE",
     "return self.excess > 0"),
    ("cap-forgotten", "rollout/bets.py", "min(trial.log_e + worth, cap)", "trial.log_e + worth"),
    ("null-without-its-margin", "rollout/bets.py",
     "Null(above=True, shift=margin)", "Null(above=True, shift=margin / 2)"),
    ("latency-bound-above-the-margin", "rollout/bets.py",
     "max(place, bisect_right(stream.bounds, limit) - 1)", "max(place, bisect_right(stream.bounds, limit))"),
    ("one-bucket-hides-the-percentile", "rollout/bets.py",
     "if stream.stable.share_over(below) > HEAVY * share:", "if False:"),
    ("estimate-below-the-percentile", "rollout/bets.py",
     "stable, canary = block.split(at.alarm, at.beyond)",
     "stable, canary = block.split(max(0, at.alarm - 1), at.beyond)"),
    ("more-staked-than-there-is", "rollout/bets.py", "STAKES = (0.28,", "STAKES = (0.56,"),
    ("more-spent-than-the-miss-rate", "rollout/analysis.py", "SPENT = 0.85", "SPENT = 1.5"),
    ("burst-of-one-look", "rollout/streams.py",
     "lasted = at - stream.opened_at >= stream.block_s or", "lasted = True or"),
    ("larger-arm-not-thinned", "rollout/bursts.py",
     "if requests <= size or hits == 0", "if requests >= 0 or hits == 0"),
    ("burst-without-its-cap", "rollout/bursts.py", "cap = min(1.0, base + 2 * gap)", "cap = 1.0"),
    ("burst-sign-flipped", "rollout/bursts.py",
     "better = max(-1.0, (null.line(mean) -", "better = max(-1.0, -(null.line(mean) -"),
    ("guardrail-on-stable", "rollout/guardrails.py",
     "Block(int(block.canary[-1]), block.canary[-1] - block.canary[at])",
     "Block(int(block.stable[-1]), block.stable[-1] - block.stable[at])"),
    ("guardrail-shares-no-risk", "rollout/analysis.py",
     "(len(spec.metrics) + len(spec.guardrails))", "len(spec.metrics)"),
    ("guardrail-flipped", "rollout/bets.py", "hits * math.log(bet / limit)", "hits * math.log(limit / bet)"),
    ("drift-without-the-mixture", "rollout/drift.py",
     "mean = share * b + (1 - share) * q", "mean = b"),
    ("drift-of-one-set", "rollout/drift.py",
     "worst = sum(max(0.0, each) for each in sums)", "worst = max(0.0, *sums)"),
    ("drift-certain-too-soon", "rollout/drift.py", "** 2 * weight / 8", "** 2 * weight / 80"),
    ("drift-cap-forgotten", "rollout/drift.py", "    if log > cap:", "    if log > 99 * cap:"),
    ("drift-of-chance-alone", "rollout/drift.py", "max(0.0, apart - chance)", "apart"),
    ("missing-arm-is-zero", "rollout/streams.py",
     "if new_stable[-1] and new_canary[-1]:", "if new_stable[-1] or new_canary[-1]:"),
    ("warm-up-counted", "rollout/streams.py", "if stream.warmup_left > 0:", "if stream.warmup_left > 10**9:"),
    ("reset-counted", "rollout/streams.py", "if min(block) < -NOISE:", "if min(block) < -(10**12):"),
    ("late-reading-restarts-a-block", "rollout/streams.py",
     "(stream if at <= stream.opened_at else", "(stream if at < 0 else"),
    ("pooled-totals", "rollout/streams.py", "        return stream.open_at(at, *rows), Closed(new_stable, new_canary)",
     "        return stream, Closed(new_stable, new_canary)"),
    ("early-bad-ones-begin-anew", "rollout/pairs.py", "        if _early(before, row):", "        if False:"),
    ("missing-arm-of-a-query-is-zero", "rollout/pairs.py",
     'return told.why or f"nothing was counted of {word}"', "pair = Pair(total=0, bad=0)"),
    ("values-beyond-their-bounds", "rollout/pairs.py", "if not -NOISE <= pair.bad <= pair.total + NOISE:", "if False:"),
    ("restart-of-one-server-forgotten", "rollout/prometheus.py",
     "self._past += before if value < before else 0.0", "self._past += 0.0"),
    ("series-that-is-away-counts-anew", "rollout/prometheus.py",
     "math.fsum(self._last.values())", "math.fsum(value for _, _, value in answers)"),
    ("mean-without-its-lower-bound", "rollout/prometheus.py", '(counts["sum"] - low * total)', 'counts["sum"]'),
    ("e-value-without-its-bound", "statistics/evalues.py", "return ratio - total * math.log(max(1.0, bound))",
     "return ratio + 0.01"),
    ("closest-point-of-one-arm", "statistics/evalues.py",
     "both = (stable * bet.stable + canary * bet.canary) / (stable + canary)", "both = bet.stable"),
    ("wilson-is-wald", "statistics/intervals.py",
     "middle = (share + z * z / (2 * total)) / shrink", "middle = share"),
    ("tango-sign-flipped", "statistics/intervals.py",
     "excess = gained - lost - total * delta", "excess = lost - gained - total * delta"),
    ("one-sided-quantile", "statistics/intervals.py",
     "return NormalDist().inv_cdf((1 + confidence) / 2)", "return NormalDist().inv_cdf(confidence)"),
    ("mcnemar-point-left-out", "statistics/paired.py",
     "return at_least(gained, gained + lost, 0.5)", "return at_least(gained + 1, gained + lost, 0.5)"),
    ("holm-without-steps", "statistics/paired.py", "alpha / len(left)", "alpha / len(items)"),
    ("holm-without-correction", "statistics/paired.py", "alpha / len(left)", "alpha"),
    ("all-of-the-tails", "statistics/bootstrap.py", "TAILS = 0.5", "TAILS = 1.0"),
    ("bias-forgotten", "statistics/bootstrap.py", "normal.cdf(2 * bias + ", "normal.cdf("),
    ("skewness-forgotten", "statistics/skewed.py", "third / variance**1.5", "0.0 * third"),
    ("skewness-turned-around", "statistics/skewed.py", "third / variance**1.5", "-third / variance**1.5"),
    ("skewness-without-its-limit", "statistics/skewed.py", "LEAST = -0.4", "LEAST = -9.0"),
    ("point-instead-of-bound", "evaluation/rules.py",
     "low, high = sorted((sign * (metric.low - limit), sign * (metric.high - limit)))",
     "low = high = sign * (metric.value - limit)"),
    ("bound-on-the-limit-fails", "evaluation/rules.py", "if low >= 0:", "if low > 0:"),
    ("margin-sign-flipped", "evaluation/rules.py",
     "difference.low + margin,\n", "difference.low - margin,\n"),
    ("equal-is-better", "evaluation/rules.py", "elif low == 0:", "elif low == 2:"),
    ("nan-passes", "evaluation/rules.py",
     "if not (math.isfinite(low) and math.isfinite(high)):", "if math.isfinite(low) and False:"),
    ("missing-champion-passes", "evaluation/rules.py", "if sides.missing is not None:", "if False:"),
    ("loss-counted-as-gain", "evaluation/measure.py",
     'sign = 1.0 if known.better == "higher" else -1.0\n    one', "sign = 1.0\n    one"),
    ("inconclusive-promotes", "evaluation/gate.py",
     "for outcome in (Outcome.FAILED, Outcome.INCONCLUSIVE):", "for outcome in (Outcome.FAILED,):"),
    ("other-examples-compared", "evaluation/align.py",
     "if place.keys() != set(candidate.ids) or len(champion.ids) != len(candidate.ids):", "if False:"),
    ("slice-of-sums-is-the-whole", "evaluation/gate.py", "if part.column is None or part.value is None:", "if True:"),
    ("ranked-the-wrong-way", "evaluation/stream.py", "labels != which", "labels == which"),
    ("unlearnt-classes-pass", "runs/champion.py", "if known and one not in known", "if False"),
    ("slices-uncorrected", "evaluation/gate.py", "if len(parts) == 1 or not worst:", "if True:"),
    ("gaps-uncorrected", "evaluation/gate.py", "if any(failed) and len(pairs) > 1:", "if False:"),
    ("narrowest-gap-decides", "evaluation/gate.py",
     "return min(results, key=lambda one:", "return max(results, key=lambda one:"),
    ("anchor-is-the-champion", "evaluation/gate.py",
     'return anchor, f"version {version}", None', 'return case.champion, f"version {version}", None'),
    ("folds-of-other-data-compared", "evaluation/folded.py",
     "if [one.split_digest for one in theirs.reports] != [", "if False and ["),
    ("folds-compared-the-wrong-way", "evaluation/folded.py", "sign * (a - b)", "sign * (b - a)"),
    ("not-recorded-passes", "evaluation/rules.py",
     "return Verdict(outcome=Outcome.INCONCLUSIVE, reason=reason",
     "return Verdict(outcome=Outcome.PASSED, reason=reason"),
    ("overlap-of-splits-allowed", "evaluation/gate.py", "    if twice:", "    if False:"),
    ("gap-without-its-interval", "evaluation/rules.py",
     "limit - gap.high,\n        limit - gap.low,", "limit - gap.value,\n        limit - gap.value,"),
    ("golden-on-the-whole", "evaluation/rules.py", "    if lost:", "    if 2 * len(lost) > champion_right:"),
    ("influences-added", "evaluation/measure.py",
     "influence.INFLUENCE[name](mine) - influence", "influence.INFLUENCE[name](mine) + influence"),
    ("worst-example-forgotten", "evaluation/influence.py", "np.append(influence, influence.min())", "influence"),
    ("same-sign-on-both-sides", "evaluation/influence.py", "_reach(-influence, confidence)",
     "_reach(influence, confidence)"),
    ("calibration-taken-for-the-truth", "evaluation/measure.py", 'if name == "ece":', 'if name == "-":'),
    ("agreement-is-certain", "evaluation/parts.py", "squares + float(np.max(influence**2, initial=0.0))", "squares"),
    ("parts-taken-for-independent", "evaluation/parts.py",
     "shared = squares / length**2 if length else 0.0", "shared, influence = 0.0, 0 * influence"),
    ("bounds-of-the-subtracted-crossed", "evaluation/parts.py", "    if weight < 0:", "    if weight < -9:"),
    ("placement-of-ties", "evaluation/parts.py", "above[1] + ties[1] / 2", "above[1] + ties[1]"),
    ("precision-of-labels", "evaluation/scores.py",
     'one.predicted if meant.which == "precision" else one.labelled', "one.labelled"),
    ("folds-taken-for-independent", "statistics/repeated.py", "(1 / count + test_to_train)", "(1 / count)"),
    ("square-and-add-crossed", "statistics/combined.py",
     "down += (weight * below) ** 2", "down += (weight * above) ** 2"),
    ("order-statistic-off-by-one", "statistics/intervals.py",
     "if at_least(rank + 1, total, share) <= tail", "if at_least(rank + 2, total, share) <= tail"),
]  # fmt: skip


def main(parts: list[str]) -> int:
    """Write the mutants of some parts (`evaluation`), or all; complain of those whose place is gone."""
    folder = Path(__file__).parent
    chosen = [mutant for mutant in MUTANTS if not parts or mutant[1].split("/")[0] in parts]
    gone = 0
    for name, file, there, instead in chosen:
        path = f"{PLATFORM}/{file}"
        text = (ROOT / path).read_text()
        if text.count(there) != 1:
            sys.stderr.write(f"{name}: {there!r} stands {text.count(there)} times in {path}\n")
            gone += 1
            continue
        mutant = text.replace(there, instead)
        lines = difflib.unified_diff(
            text.splitlines(keepends=True), mutant.splitlines(keepends=True), f"a/{path}", f"b/{path}"
        )
        (folder / f"{name}.patch").write_text("".join(lines))
    for old in folder.glob("*.patch"):
        if old.stem not in {mutant[0] for mutant in MUTANTS}:
            old.unlink()
    sys.stdout.write(f"{len(chosen) - gone} of {len(chosen)} mutants\n")
    return int(gone > 0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
