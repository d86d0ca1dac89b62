"""How often does the canary analysis err, and how long does it take? Proof by simulation, seeded.

    python benchmarks/canary_analysis.py                    # 400 rollouts a row, under a minute
    python benchmarks/canary_analysis.py --rollouts 10000 --looks 3600 --jobs 2 --write docs/canary-analysis.md

False aborts are counted without ever stopping for a success, and false successes without ever stopping for an abort:
both are upper bounds of what a rollout does. `canary_twin` does the mass; a unit test holds it equal to the product.
"""

import argparse
import math
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from canary_twin import Array, Metric, Twin, log_e

from modelyard.rollout.analysis import LATENCY_BOUNDS_MS
from modelyard.statistics.intervals import clopper_pearson

ALARM = math.log(2 / 0.01)
"""falseAlarmRate 1 % over two metrics."""
SUCCESS = math.log(1 / 0.05)
MIN_REQUESTS = 30
BOUNDS = tuple(bound for bound in LATENCY_BOUNDS_MS if 2.5 < bound < 40)
HISTORY = 2000
SPREAD = 0.5


@dataclass(frozen=True)
class Scene:
    """One kind of rollout."""

    name: str
    stop: str
    """alarm, success, or either."""
    base: float = 0.0
    canary: float = 0.0
    margin: float = 0.01
    weight: float = 0.05
    per_look: int = 100
    looks: int = 600
    tail: float = 0.0
    """Of the latency metric: 0.1 for p90; 0: error rate."""
    slower: float = 1.0
    """The canary's latencies, as a multiple of stable's."""
    drift: bool = False
    """Weights 1, 5, 25, 50 % in turn while the base rate swings between a half and three times."""
    bursts: bool = False
    """Both arms have bursts of errors of their own, 10 looks long: requests are not independent."""
    pooled: bool = False
    """Judge totals instead of blocks: what the product does not do."""
    seed: int = 0

    def metric(self) -> Metric:
        """What is compared."""
        return Metric(self.margin, self.tail, bounds=BOUNDS) if self.tail else Metric(self.margin)


@dataclass
class Result:
    """What became of the rollouts of a scene."""

    scene: Scene
    outcome: Array = field(default_factory=lambda: np.zeros(0))
    """1 alarm, 2 success, 0 neither."""
    total: Array = field(default_factory=lambda: np.zeros(0))
    canary: Array = field(default_factory=lambda: np.zeros(0))
    told: Array = field(default_factory=lambda: np.zeros(0))
    """Requests that the same E-process needs when it is told both rates."""
    sprt: Array = field(default_factory=lambda: np.zeros(0))
    """Requests that Wald's test of the canary alone needs when it is told both rates."""

    def share(self, outcome: int) -> tuple[float, float]:
        """Share with an outcome, and the upper end of its 99 % interval."""
        count = int((self.outcome == outcome).sum())
        return count / len(self.outcome), clopper_pearson(count, len(self.outcome), 0.99).high


def shares(scene: Scene, at: int) -> tuple[float, float, float]:
    """Weight and both arms' rates at a look."""
    if not scene.drift:
        return scene.weight, scene.base, scene.canary
    part = min(3, 4 * at // scene.looks)
    swing = (0.5, 3.0, 1.0, 2.0)[part] if scene.base * 3 + scene.margin < 1 else 1.0
    return (0.01, 0.05, 0.25, 0.5)[part], scene.base * swing, scene.base * swing + scene.canary - scene.base


def latencies(slower: float) -> Array:
    """Chances of each bucket of BOUNDS, and beyond, for lognormal answers around 5 ms."""
    at = np.array([math.log(bound / (5 * slower)) / SPREAD for bound in BOUNDS])
    below = np.array([0.5 * (1 + math.erf(z / math.sqrt(2))) for z in at])
    return np.diff(np.concatenate([[0.0], below, [1.0]]))


def draw(rng: np.random.Generator, counts: Array, rate: Array | float, chances: Array | None) -> Array:
    """Rows (M, bounds + 1) of what these many requests do."""
    if chances is None:
        hits = rng.binomial(counts, rate)
        return np.stack([counts - hits, counts], axis=1).astype(float)
    return np.cumsum(rng.multinomial(counts, chances), axis=1).astype(float)


def play(scene: Scene, rollouts: int) -> Result:
    """Run one scene."""
    rng = np.random.default_rng([scene.seed, rollouts])
    fast, slow = (latencies(1.0), latencies(scene.slower)) if scene.tail else (None, None)
    history = draw(rng, np.full(rollouts, HISTORY), shares(scene, 0)[1], fast)
    twin = Twin(rollouts, scene.metric(), history=history)
    result = Result(scene, *(np.zeros(rollouts) for _ in range(5)))
    sent_s, sent_c = np.zeros(rollouts), np.zeros(rollouts)
    told, sprt = np.zeros(rollouts), np.zeros(rollouts)
    burst_s, burst_c = np.zeros(rollouts), np.zeros(rollouts)
    for at in range(scene.looks):
        weight, base, bad = shares(scene, at)
        to_canary = rng.binomial(scene.per_look, weight, size=rollouts)
        to_stable = scene.per_look - to_canary
        rate_s, rate_c = np.full(rollouts, base), np.full(rollouts, bad)
        if scene.bursts:
            burst_s = np.where(burst_s > 0, burst_s - 1, 10 * (rng.random(rollouts) < 0.003))
            burst_c = np.where(burst_c > 0, burst_c - 1, 10 * (rng.random(rollouts) < 0.003))
            rate_s, rate_c = rate_s + 0.5 * (burst_s > 0), rate_c + 0.5 * (burst_c > 0)
        stable, canary = draw(rng, to_stable, rate_s, fast), draw(rng, to_canary, rate_c, slow)
        sent_s += to_stable
        sent_c += to_canary
        if scene.pooled:
            twin = Twin(rollouts, scene.metric(), history=history) if at == 0 else twin
            _pooled(twin, stable, canary)
        else:
            twin.look(stable, canary)
        enough = np.minimum(twin.counted_s, twin.counted_c) >= MIN_REQUESTS
        alarm = enough & (twin.alarm >= ALARM) & twin.beyond
        success = enough & (twin.success >= SUCCESS)
        ended = np.zeros(rollouts, dtype=int)
        if scene.stop in ("success", "either"):
            ended = np.where(success, 2, ended)
        if scene.stop in ("alarm", "either"):
            ended = np.where(alarm, 1, ended)
        new = (result.outcome == 0) & (ended > 0)
        result.outcome = np.where(new, ended, result.outcome)
        result.total, result.canary = np.where(new, sent_s + sent_c, result.total), np.where(new, sent_c, result.canary)
        if not scene.tail and scene.per_look <= 2000:
            _told(scene, result, ((stable, canary), (base, bad), (told, sprt), (sent_s + sent_c, enough)))
        if (result.outcome > 0).all() and (scene.tail or (result.told > 0).all()):
            break
    return result


def _told(scene: Scene, result: Result, seen: tuple) -> None:
    """The same test, and Wald's, told both rates."""
    (stable, canary), (base, bad), (told, sprt), (sent, enough) = seen
    ns, nc, ks, kc = stable[:, -1], canary[:, -1], stable[:, -1] - stable[:, 0], canary[:, -1] - canary[:, 0]
    some = (ns > 0) & (nc > 0)
    if scene.stop == "success" or scene.canary <= scene.base:
        nulls, limit = (base, base + scene.margin), SUCCESS
        worth = log_e(ns, ks, nc, kc, np.float64(base), np.float64(bad), above=True, shift=scene.margin)
    else:
        nulls, limit = (base, base), ALARM
        worth = log_e(ns, ks, nc, kc, np.float64(base), np.float64(bad), above=False)
    told += np.where(some, worth, 0.0)
    p, q = max(bad, 1e-9), nulls[1]
    sprt += kc * math.log(p / max(q, 1e-9)) + (nc - kc) * math.log((1 - p) / (1 - q))
    result.told = np.where((result.told == 0) & (told >= limit) & enough, sent, result.told)
    result.sprt = np.where((result.sprt == 0) & (sprt >= limit), sent, result.sprt)


def _pooled(twin: Twin, stable: Array, canary: Array) -> None:
    """What totals over time would say: one block that began with the rollout."""
    twin.open_s += stable
    twin.open_c += canary
    ns, nc = twin.open_s[:, -1], twin.open_c[:, -1]
    ks, kc = ns - twin.open_s[:, 0], nc - twin.open_c[:, 0]
    p, q = (ks + kc + 0.5) / (ns + nc + 1), (kc + 0.5) / (nc + 1)
    twin.alarm = np.where((nc > 0) & (q > p), log_e(ns, ks, np.maximum(nc, 1), kc, p, q, above=False), 0.0)
    twin.excess = kc / np.maximum(1, nc) - ks / np.maximum(1, ns)
    twin.counted_s, twin.counted_c = ns, nc


def scenes(looks: int) -> dict[str, list[Scene]]:
    """All rows, by table."""
    weights = (0.01, 0.05, 0.5)
    false_aborts = [
        Scene(f"errors {base:.2%}, weight {weight:.0%}", "alarm", base=base, canary=base, weight=weight, looks=looks)
        for base in (0.0001, 0.01, 0.1)
        for weight in weights
    ]
    false_aborts += [
        Scene(f"errors {base:.2%}, weights and rates drift", "alarm", base=base, canary=base, drift=True, looks=looks)
        for base in (0.0001, 0.01, 0.1)
    ]
    false_aborts += [
        Scene(f"p90, weight {weight:.0%}", "alarm", tail=0.1, margin=0.5, weight=weight, looks=min(looks, 900))
        for weight in (0.05, 0.5)
    ]
    boundary = [
        replace(scene, name=scene.name + ", +1 point", stop="success", canary=scene.base + 0.01)
        for scene in false_aborts
        if not scene.tail
    ]
    boundary += [
        Scene(f"p90 × {1 + margin:g}, weight {weight:.0%}", "success", tail=0.1, margin=margin, slower=1 + margin,
              weight=weight, looks=min(looks, 900))
        for margin, weight in ((0.5, 0.05), (0.5, 0.5), (0.1, 0.5))
    ]  # fmt: skip
    regressions = [
        Scene(f"errors 1% → {1 + 100 * more:g}%, margin 1 point, weight {weight:.0%}", "either", base=0.01,
              canary=0.01 + more, weight=weight, per_look=max(10, round(0.4 / more / weight / 5)), looks=20000)
        for more in (0.02, 0.05, 0.2)
        for weight in (0.05, 0.5)
    ]  # fmt: skip
    regressions += [
        Scene(f"p90 × {slower:g}, margin 50%, weight {weight:.0%}", "either", tail=0.1, margin=0.5, slower=slower,
              weight=weight, per_look=20, looks=4000)
        for slower in (1.75, 2.0, 4.0)
        for weight in (0.05, 0.5)
    ]  # fmt: skip
    regressions += [
        Scene("the demo: errors 0% → 10%, margin 5 points, weight 5%", "either", base=0.0, canary=0.1, margin=0.05,
              per_look=50, looks=2000),
        Scene("errors 1% → 1.5%, within the margin of 1 point, weight 50%", "either", base=0.01, canary=0.015,
              weight=0.5, per_look=500, looks=2000),
    ]  # fmt: skip
    good = [
        Scene(f"errors {base:.0%}, margin {100 * margin:g} points, weight {weight:.0%}", "either", base=base,
              canary=base, margin=margin, weight=weight, per_look=per_look, looks=4000)
        for base, margin, weight, per_look in ((0.0, 0.05, 0.05, 50), (0.0, 0.02, 0.5, 25), (0.01, 0.05, 0.05, 50),
                                               (0.01, 0.01, 0.05, 200), (0.01, 0.002, 0.05, 2000))
    ]  # fmt: skip
    good += [
        Scene(f"p90, margin {margin:.0%}, weight {weight:.0%}", "either", tail=0.1, margin=margin, weight=weight,
              per_look=per_look, looks=4000)
        for margin, weight, per_look in ((0.5, 0.05, 50), (0.5, 0.5, 25), (0.1, 0.5, 200))
    ]  # fmt: skip
    broken = [
        Scene("totals instead of blocks, weights and rates drift", "alarm", base=0.01, canary=0.01, drift=True,
              pooled=True, looks=looks),
        Scene("bursts of errors on each arm by itself", "alarm", base=0.01, canary=0.01, bursts=True, weight=0.5,
              looks=looks),
    ]  # fmt: skip
    return {"aborts": false_aborts, "successes": boundary, "regressions": regressions, "good": good, "broken": broken}


def _errors(results: list[Result], outcome: int, limit: str) -> list[str]:
    lines = ["| canary | share | upper end of its 99 % interval | allowed |", "|---|---|---|---|"]
    for result in results:
        share, high = result.share(outcome)
        lines.append(f"| {result.scene.name} | {share:.2%} | {high:.2%} | {limit} |")
    return lines


def _times(results: list[Result], outcome: int, word: str) -> list[str]:
    head = ("canary", word, "requests until then: median (90 %)", "of which the canary's", "told both rates", "ratio",
            "Wald's test, told both")  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for result in results:
        share, _ = result.share(outcome)
        at = result.outcome == outcome
        if not at.any():
            lines.append(f"| {result.scene.name} | {share:.1%} | – | – | – | – | – |")
            continue
        middle, late = np.median(result.total[at]), np.quantile(result.total[at], 0.9)
        told = np.median(result.told[result.told > 0]) if (result.told > 0).any() else math.nan
        wald = np.median(result.sprt[result.sprt > 0]) if (result.sprt > 0).any() else math.nan
        ratio = f"{middle / told:.2f}" if not math.isnan(told) else "–"
        lines.append(
            f"| {result.scene.name} | {share:.1%} | {middle:,.0f} ({late:,.0f}) | "
            f"{np.median(result.canary[at]):,.0f} | "
            f"{told:,.0f} | {ratio} | {wald:,.0f} |".replace("nan", "–")
        )
    return lines


def tables(results: dict[str, list[Result]]) -> str:
    """All tables as Markdown."""
    parts = {
        "An as-good canary is aborted (1 % shared by two metrics)": _errors(results["aborts"], 1, "0.5 %"),
        "A canary that is worse by exactly the margin is let through": _errors(results["successes"], 2, "5 %"),
        "Requests until a worse canary is aborted": _times(results["regressions"], 1, "aborted"),
        "Requests until an as-good canary is Successful": _times(results["good"], 2, "Successful"),
        "What is assumed, broken on purpose: an as-good canary is aborted": _errors(results["broken"], 1, "0.5 %"),
    }
    return "\n\n".join(f"### {title}\n\n" + "\n".join(lines) for title, lines in parts.items())


def main(argv: list[str] | None = None, say: Callable[[str], None] = print) -> dict[str, list[Result]]:
    """Run all scenes and show their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=400, help="rollouts a row")
    parser.add_argument("--looks", type=int, default=300, help="looks of the rows that count errors")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", choices=list(scenes(1)), help="one table")
    parser.add_argument("--write", type=Path, help="file whose part between the marks is replaced")
    asked = parser.parse_args(argv)
    began = time.monotonic()
    wanted = {name: rows for name, rows in scenes(asked.looks).items() if asked.only in (None, name)}
    jobs = [(name, replace(scene, seed=at)) for name, rows in wanted.items() for at, scene in enumerate(rows)]
    # the rows of time need fewer rollouts for a median than those of rare errors
    sizes = [asked.rollouts if name in ("aborts", "successes") else min(asked.rollouts, 1000) for name, _ in jobs]
    with ProcessPoolExecutor(asked.jobs) as pool:
        played = list(pool.map(play, [scene for _, scene in jobs], sizes))
    results: dict[str, list[Result]] = {name: [] for name in scenes(1)}
    for (name, _), result in zip(jobs, played, strict=True):
        results[name].append(result)
    text = tables(results)
    text += f"\n\n{asked.rollouts:,} rollouts a row (1,000 at most for times), {asked.looks:,} looks; seeded.\n"
    say(text)
    say(f"took {time.monotonic() - began:.0f} s")
    if asked.write:
        before, _, rest = asked.write.read_text().partition("<!-- simulation -->\n")
        after = rest.partition("<!-- end of simulation -->")[2]
        asked.write.write_text(f"{before}<!-- simulation -->\n{text}<!-- end of simulation -->{after}")
    return results


if __name__ == "__main__":
    main()
