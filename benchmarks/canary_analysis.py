"""How often does the canary analysis err, and how long does it take? Proof by simulation, seeded.

    python benchmarks/canary_analysis.py                    # 400 rollouts a row, 300 looks: a minute
    python benchmarks/canary_analysis.py --full --jobs 2 --write docs/canary-analysis.md

`--full` plays 10,000 rollouts of 3,600 looks for each row that counts errors. False aborts are counted without ever
stopping for a success, and false successes without ever stopping for an abort: both are upper bounds of what a
rollout does. `canary_twin` does the mass; a unit test holds it equal to the product. `canary_rules` plays the same
traffic through the rules that are written for Argo Rollouts and for Flagger.
"""

import argparse
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import canary_rules
import numpy as np
from canary_twin import Array, Metric, Twin, log_e

from modelyard.rollout import streams
from modelyard.rollout.analysis import LATENCY_BOUNDS_MS, SPENT
from modelyard.statistics.intervals import clopper_pearson

ALARM = math.log(2 / 0.01)
"""falseAlarmRate 1 % over two metrics."""
MISS = math.log(1 / 0.05)
"""missRate 5 %: of Wald's test."""
SUCCESS = MISS - math.log(SPENT)
MIN_REQUESTS = 10
SPREAD = 0.5
"""Of the logarithm of latencies, around 5 ms."""
FULL = {"rollouts": 10_000, "looks": 3600}


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
    per_look: float = 100
    """Requests of both arms between two looks, in the mean."""
    looks: int = 600
    tail: float = 0.0
    """Of the latency metric: 0.1 for p90; 0: error rate."""
    slower: float = 1.0
    """The canary's latencies, as a multiple of stable's."""
    drift: bool = False
    """Weights 1, 5, 25, 50 % in turn while the base rate swings between a half and three times."""
    bursts: bool = False
    """Both arms have bursts of errors of their own, 2 to 10 looks long: requests are not independent."""
    blocks: int = 0
    """Looks to a time block of the burst-robust test; 0: the plain test."""
    pooled: bool = False
    """Judge totals instead of blocks: what the product does not do."""
    told: bool = False
    """Play the tests that are told both rates too."""
    seed: int = 0

    @property
    def bounds(self) -> tuple[float, ...]:
        """Those around the percentile; others decide nothing here."""
        low, high = (7.0, 16.0) if self.tail > 0.05 else (12.0, 27.0)
        return tuple(bound for bound in LATENCY_BOUNDS_MS if low < bound < high) if self.tail else (0.0,)

    def metric(self) -> Metric:
        """What is compared."""
        return Metric(self.margin, self.tail, bounds=self.bounds)


@dataclass
class Result:
    """What became of the rollouts of a scene."""

    scene: Scene
    outcome: Array
    """1 alarm, 2 success, 0 neither."""
    total: Array
    canary: Array
    """Requests until then: of both arms, and of the canary."""
    told: Array
    """Requests that the same E-process needs when it is told both rates; 0: it never came to an end."""
    sprt: Array
    """Requests that Wald's test of the canary alone needs when it is told both rates."""
    took: float = 0.0

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


def beyond(bounds: Sequence[float], slower: float = 1.0) -> Array:
    """Shares of answers slower than each bound: lognormal around 5 ms."""
    return np.array([0.5 * math.erfc(math.log(bound / (5 * slower)) / SPREAD / math.sqrt(2)) for bound in bounds])


def cells(scene: Scene, rate: float, slower: float) -> Array:
    """Chances of each column of a row: fine or failed; or each bucket of the histogram."""
    if not scene.tail:
        return np.array([1 - rate, rate])
    return -np.diff(np.concatenate([[1.0], beyond(scene.bounds, slower), [0.0]]))


class Dice:
    """Poisson numbers of one mean: a table of alternatives (Walker), ten times as fast as numpy's."""

    def __init__(self, mean: float):
        top = int(mean + 12 * math.sqrt(mean) + 30)
        logs = np.arange(1, top)
        chances = np.exp(np.concatenate([[0.0], np.cumsum(np.log(max(mean, 1e-300) / logs))]) - mean) * top
        self.sure, self.other = np.ones(top), np.arange(top)
        small, large = [i for i in range(top) if chances[i] < 1], [i for i in range(top) if chances[i] >= 1]
        while small and large:
            low, high = small.pop(), large[-1]
            self.sure[low], self.other[low] = chances[low], high
            chances[high] -= 1 - chances[low]
            if chances[high] < 1:
                small.append(large.pop())

    def roll(self, rng: np.random.Generator, count: int) -> Array:
        """`count` numbers, as floats."""
        spot = rng.random(count) * len(self.sure)
        face = spot.astype(np.intp)
        return np.where(spot - face < self.sure[face], face, self.other[face]).astype(float)


def rows(rng: np.random.Generator, dice: Sequence[Dice], count: int) -> Array:
    """Cumulative rows (bounds + 1, count) of what one arm did."""
    return np.cumsum([die.roll(rng, count) for die in dice], axis=0)


def play(scene: Scene, rollouts: int) -> Result:  # noqa: C901  one pass over time
    """Run one scene. Requests are Poisson, and dealt out by chance."""
    began = time.process_time()
    rng = np.random.default_rng([scene.seed, rollouts])
    first = [Dice(streams.HISTORY * chance) for chance in cells(scene, shares(scene, 0)[1], 1.0)]
    twin = Twin(
        scene.metric(),
        history=rows(rng, first, rollouts),
        alarm=scene.stop != "success",
        success=scene.stop != "alarm",
        block=scene.blocks,
    )
    result = Result(scene, *(np.zeros(rollouts) for _ in range(5)))
    on = np.arange(rollouts)  # those that go on; what follows is about them alone
    sent, bad, told, sprt = (np.zeros(rollouts) for _ in range(4))
    bursts = np.zeros((2, rollouts))
    known: tuple[float, float, float] = (-1.0, 0.0, 0.0)
    for at in range(scene.looks):
        if shares(scene, at) != known:
            known = shares(scene, at)
            means = scene.per_look * (1 - known[0]), scene.per_look * known[0]
            dice = [
                [Dice(mean * chance) for chance in cells(scene, rate, slower)]
                for mean, rate, slower in zip(means, known[1:], (1.0, scene.slower), strict=True)
            ]
            truth = _truth(scene, known)
        if scene.bursts:
            stable, canary = _bursting(rng, bursts, means, known[1:])
        else:
            stable, canary = (rows(rng, each, len(on)) for each in dice)
        sent += stable[-1] + canary[-1]
        bad += canary[-1]
        (_pooled if scene.pooled else Twin.look)(twin, stable, canary)
        enough = np.minimum(twin.counted_s, twin.counted_c) >= MIN_REQUESTS
        ended = np.zeros(len(on), dtype=int)
        if scene.stop != "alarm":
            ended[enough & (twin.success >= SUCCESS)] = 2
        if scene.stop != "success":
            ended[enough & (twin.alarm_e >= math.exp(ALARM)) & twin.beyond] = 1
        new = (ended > 0) & (result.outcome[on] == 0)
        if new.any():
            result.outcome[on[new]], result.total[on[new]], result.canary[on[new]] = ended[new], sent[new], bad[new]
        if scene.told:
            _told(result, truth, (stable, canary), (told, sprt), on, sent, enough)
        done = result.outcome[on] > 0
        if scene.told:
            done &= (result.told[on] > 0) & (result.sprt[on] > 0)
        if done.mean() > 0.2:
            if done.all():
                break
            left = ~done
            twin.keep(left)
            on, sent, bad, told, sprt = on[left], sent[left], bad[left], told[left], sprt[left]
            bursts = bursts[:, left]
    result.took = time.process_time() - began
    return result


def _truth(scene: Scene, known: tuple[float, float, float]) -> tuple[int, int, float, float, float, bool]:
    """Places on both arms, the true shares beyond them, the null's shift, and whether success is asked for."""
    _, base, bad = known
    good = scene.stop == "success" or (scene.canary <= scene.base and scene.slower <= 1)
    if not scene.tail:
        return 0, 0, base, bad, scene.margin if good else 0.0, good
    bounds = np.array(scene.bounds)
    stable, canary = beyond(bounds), beyond(bounds, scene.slower)
    above = int((stable >= scene.tail).sum())
    at = above - 1 if good else above
    to = int(np.searchsorted(bounds, bounds[at] * (1 + scene.margin) * 1.001, "right")) - 1 if good else above
    return at, to, stable[at], canary[to], 0.0, good


def _told(result: Result, truth: tuple, seen: tuple, logs: tuple, on: Array, sent: Array, enough: Array) -> None:
    """The same test, and Wald's of the canary alone, told both rates."""
    (at, to, base, bad, shift, good), (stable, canary), (told, sprt) = truth, seen, logs
    ns, nc = stable[-1], canary[-1]
    ks, kc = ns - stable[at], nc - canary[to]
    limit, null = (SUCCESS, base + shift) if good else (ALARM, base)
    one = np.maximum(nc, 1)
    worth = log_e(np.maximum(ns, 1), ks, one, kc, np.float64(base), np.float64(bad), shift=shift)
    told += np.where((ns > 0) & (nc > 0), worth, 0.0)
    p, q = max(bad, 1e-9), max(null, 1e-9)
    sprt += kc * math.log(p / q) + (nc - kc) * math.log((1 - p) / (1 - q))
    for held, log, least, ready in ((result.told, told, limit, enough), (result.sprt, sprt, min(limit, MISS), True)):
        new = (held[on] == 0) & (log >= (least if good else limit)) & ready
        held[on[new]] = sent[new]


def _bursting(rng: np.random.Generator, left: Array, means: Sequence[float], rates: Sequence[float]) -> list[Array]:
    """Each arm by itself fails half of its answers for 2 to 10 looks, now and then."""
    seen = []
    for arm, (mean, rate) in enumerate(zip(means, rates, strict=True)):
        begins = (left[arm] <= 0) & (rng.random(left.shape[1]) < 0.003)
        left[arm] = np.where(begins, rng.integers(2, 11, left.shape[1]), left[arm] - 1)
        count = rng.poisson(mean, left.shape[1])
        hits = rng.binomial(count, rate + 0.5 * (left[arm] > 0))
        seen.append(np.array([count - hits, count], dtype=float))
    return seen


def _pooled(twin: Twin, stable: Array, canary: Array) -> None:
    """What totals over time would say: one block that began with the rollout."""
    twin.open_s += stable
    twin.open_c += canary
    ns, nc = twin.open_s[-1], twin.open_c[-1]
    ks, kc = ns - twin.open_s[0], nc - twin.open_c[0]
    p, q = (ks + kc + 0.5) / (ns + nc + 1), (kc + 0.5) / (nc + 1)
    logs = np.where((nc > 0) & (q > p), log_e(np.maximum(ns, 1), ks, np.maximum(nc, 1), kc, p, q), 0.0)
    twin.alarm_e = np.exp(np.minimum(logs, 500))
    twin.excess = kc / np.maximum(1, nc) - ks / np.maximum(1, ns)
    twin.counted_s, twin.counted_c = ns, nc


def scenes(looks: int) -> dict[str, list[Scene]]:
    """All rows, by table."""
    aborts = [
        Scene(f"errors {base:.2%}, weight {weight:.0%}", "alarm", base=base, canary=base, weight=weight, looks=looks)
        for base in (0.0001, 0.01, 0.1)
        for weight in (0.01, 0.05, 0.5)
    ]
    aborts += [
        Scene(f"errors {base:.2%}, weights and rates drift", "alarm", base=base, canary=base, drift=True, looks=looks)
        for base in (0.0001, 0.01, 0.1)
    ]
    boundary = [
        replace(scene, name=scene.name + ", +1 point", stop="success", canary=scene.base + 0.01) for scene in aborts
    ]
    slow = (("p90", 0.1, 0.5, 0.05), ("p90", 0.1, 0.5, 0.5), ("p99", 0.01, 0.1, 0.5))
    aborts += [
        Scene(f"{name}, weight {weight:.0%}", "alarm", tail=tail, margin=margin, weight=weight, looks=looks)
        for name, tail, margin, weight in slow
    ]
    boundary += [
        Scene(f"{name} × {1 + margin:g}, weight {weight:.0%}", "success", tail=tail, margin=margin,
              slower=1 + margin, weight=weight, looks=looks)
        for name, tail, margin, weight in slow
    ]  # fmt: skip
    regressions = [
        Scene(f"errors 1% → {1 + 100 * more:g}%, margin 0.5 points, weight {weight:.0%}", "either", base=0.01,
              canary=0.01 + more, margin=0.005, weight=weight, per_look=max(5, round(0.2 / more / weight / 5)),
              looks=20000, told=True)
        for more in (0.01, 0.02, 0.05)
        for weight in (0.05, 0.5)
    ]  # fmt: skip
    regressions += [
        Scene(f"{name} × {slower:g}, margin 10%, weight {weight:.0%}", "either", tail=tail, margin=0.1,
              slower=slower, weight=weight, per_look=per_look / weight, looks=20000, told=True)
        for name, tail, slower, per_look in (("p90", 0.1, 1.25, 5), ("p90", 0.1, 2.0, 1),
                                             ("p99", 0.01, 1.25, 20), ("p99", 0.01, 2.0, 2))
        for weight in (0.05, 0.5)
    ]  # fmt: skip
    regressions += [
        Scene("the demo: errors 0% → 10%, margin 5 points, weight 5%", "either", base=0.0, canary=0.1, margin=0.05,
              per_look=50, looks=2000, told=True),
        Scene("errors 1% → 1.5%, within the margin of 1 point, weight 50%", "either", base=0.01, canary=0.015,
              weight=0.5, per_look=500, looks=2000),
    ]  # fmt: skip
    good = [
        Scene(f"errors {base:.0%}, margin {100 * margin:g} points, weight {weight:.0%}", "either", base=base,
              canary=base, margin=margin, weight=weight, per_look=per_look, looks=8000, told=True)
        for base, margin, weight, per_look in ((0.0, 0.05, 0.05, 50), (0.0, 0.02, 0.5, 25), (0.01, 0.05, 0.05, 50),
                                               (0.01, 0.01, 0.05, 200), (0.01, 0.002, 0.05, 2000))
    ]  # fmt: skip
    good += [
        Scene(f"{name}, margin {margin:.0%}, weight {weight:.0%}", "either", tail=tail, margin=margin, weight=weight,
              per_look=per_look, looks=8000, told=True)
        for name, tail, margin, weight, per_look in (("p90", 0.1, 0.5, 0.05, 50), ("p90", 0.1, 0.5, 0.5, 20),
                                                     ("p90", 0.1, 0.1, 0.5, 100), ("p99", 0.01, 0.1, 0.5, 500))
    ]  # fmt: skip
    bursty = Scene("", "alarm", base=0.01, canary=0.01, bursts=True, looks=min(looks, 1800))
    broken = [
        Scene("totals instead of blocks, weights and rates drift", "alarm", base=0.01, canary=0.01, drift=True,
              pooled=True, looks=min(looks, 1800)),
        *(replace(bursty, name=f"bursts on each arm by itself, weight {weight:.0%}", weight=weight)
          for weight in (0.05, 0.5)),
        *(replace(bursty, name=f"the same, `bursts: 10s`, weight {weight:.0%}", weight=weight, blocks=30)
          for weight in (0.05, 0.5)),
    ]  # fmt: skip
    robust = [
        Scene("bursts, errors 1% → 6%, weight 50%", "either", base=0.01, canary=0.06, bursts=True, weight=0.5,
              blocks=30, looks=8000),
        Scene("no bursts, errors 1% → 3%, weight 50%", "either", base=0.01, canary=0.03, weight=0.5, blocks=30,
              looks=8000),
        Scene("no bursts, errors 1% → 3%, weight 50%, the plain test", "either", base=0.01, canary=0.03, weight=0.5,
              looks=8000),
        Scene("no bursts, as good, margin 5 points, weight 5%", "either", base=0.01, canary=0.01, margin=0.05,
              blocks=30, looks=8000),
        Scene("no bursts, as good, margin 1 point, weight 50%", "either", base=0.01, canary=0.01, weight=0.5,
              blocks=30, looks=8000),
        Scene("no bursts, as good, margin 1 point, weight 50%, the plain test", "either", base=0.01, canary=0.01,
              weight=0.5, looks=8000),
        Scene("bursts, as good, margin 1 point, weight 50%", "either", base=0.01, canary=0.01, bursts=True, weight=0.5,
              blocks=30, looks=8000),
    ]  # fmt: skip
    return {
        "aborts": aborts, "successes": boundary, "regressions": regressions, "good": good, "broken": broken,
        "robust": robust,
    }  # fmt: skip


def _errors(results: list[Result], outcome: int, allowed: float) -> list[str]:
    lines = ["| canary | share | upper end of its 99 % interval | allowed |", "|---|---|---|---|"]
    for result in results:
        share, high = result.share(outcome)
        lines.append(f"| {result.scene.name} | {share:.2%} | {high:.2%} | {allowed:.1%} |")
    return lines


def _times(results: list[Result], word: str) -> list[str]:
    head = ("canary", word, "requests until then: median (90 %)", "of which the canary's", "harmed",
            "told both rates", "ratio", "Wald's test, told both")  # fmt: skip
    outcome = 1 if word == "aborted" else 2
    shown = [at for at, column in enumerate(head) if column != "harmed" or outcome == 1]
    head = tuple(head[at] for at in shown)
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for result in results:
        share, _ = result.share(outcome)
        at = result.outcome == outcome
        if not at.any():
            lines.append(f"| {result.scene.name} | {share:.1%} |" + " – |" * (len(head) - 2))
            continue
        middle, late, mine = (
            np.median(result.total[at]),
            np.quantile(result.total[at], 0.9),
            np.median(result.canary[at]),
        )
        told, wald = (
            np.median(one[one > 0]) if (one > 0).mean() > 0.5 else math.nan for one in (result.told, result.sprt)
        )
        harm = mine * max(0.0, result.scene.canary - result.scene.base)
        cells_ = (
            f"{share:.1%}", f"{middle:,.0f} ({late:,.0f})", f"{mine:,.0f}", f"{harm:,.1f}" if harm else "–",
            f"{told:,.0f}", f"{middle / told:.2f}", f"{wald:,.0f}",
        )  # fmt: skip
        every = (result.scene.name, *cells_)
        lines.append(f"| {' | '.join(every[at] for at in shown).replace('nan', '–')} |")
    return lines


def tables(results: dict[str, list[Result]]) -> str:
    """All tables as Markdown."""
    bad = [one for one in results["robust"] if one.scene.canary > one.scene.base]
    good = [one for one in results["robust"] if one.scene.canary <= one.scene.base]
    parts = {
        "An as-good canary is aborted (1 % shared by two metrics)": _errors(results["aborts"], 1, 0.005),
        "A canary that is worse by exactly the margin is let through": _errors(results["successes"], 2, 0.05),
        "Requests until a worse canary is aborted": _times(results["regressions"], "aborted"),
        "Requests until an as-good canary is Successful": _times(results["good"], "Successful"),
        "What is assumed, broken on purpose: an as-good canary is aborted": _errors(results["broken"], 1, 0.005),
        "With `bursts: 10s`: requests until a worse canary is aborted": _times(bad, "aborted"),
        "With `bursts: 10s`: requests until an as-good canary is Successful": _times(good, "Successful"),
    }
    return "\n\n".join(f"### {title}\n\n" + "\n".join(lines) for title, lines in parts.items() if len(lines) > 2)


def main(argv: list[str] | None = None, say: Callable[[str], None] = print) -> dict[str, list[Result]]:
    """Run all scenes and show their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=400, help="rollouts a row")
    parser.add_argument("--looks", type=int, default=300, help="looks of the rows that count errors")
    parser.add_argument("--full", action="store_const", const=FULL, help="10,000 rollouts of 3,600 looks")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", choices=[*scenes(1), "rules"], action="append", help="one table")
    parser.add_argument("--write", type=Path, help="file whose part between the marks is replaced; plots lie beside it")
    asked = parser.parse_args(argv)
    rollouts, looks = (asked.full or vars(asked))["rollouts"], (asked.full or vars(asked))["looks"]
    began = time.monotonic()
    wanted = {name: each for name, each in scenes(looks).items() if asked.only is None or name in asked.only}
    jobs = [(name, replace(scene, seed=at)) for name, each in wanted.items() for at, scene in enumerate(each)]
    # rows that are long and rare first, so that no core waits for the last; a median needs fewer rollouts than a rate
    jobs.sort(key=lambda job: job[0] not in ("aborts", "successes"))
    most = {"aborts": rollouts, "successes": rollouts, "broken": 2000}
    sizes = [min(rollouts, most.get(name, 1000)) for name, _ in jobs]
    results: dict[str, list[Result]] = {name: [] for name in scenes(1)}
    rules = asked.only is None or "rules" in asked.only
    with ProcessPoolExecutor(asked.jobs) as pool:
        futures = {pool.submit(play, scene, size): name for (name, scene), size in zip(jobs, sizes, strict=True)}
        others = canary_rules.submit(pool, min(rollouts, 2000)) if rules else []
        for done, future in enumerate(as_completed(futures), 1):
            result = future.result()
            results[futures[future]].append(result)
            if asked.full:
                print(f"{done}/{len(futures)} {result.scene.name}: {result.took:.0f} s", file=sys.stderr, flush=True)
        judged = canary_rules.collect(others)
    for each in results.values():
        each.sort(key=lambda result: result.scene.seed)
    text = tables(results) + ("\n\n" + canary_rules.table(judged) if judged else "")
    played = f"{rollouts:,} rollouts a row that counts errors ({min(rollouts, 1000):,} for times), {looks:,} looks"
    text += f"\n\n{played}; seeded.\n"
    say(text)
    took = time.monotonic() - began
    say(f"took {took:.0f} s, {sum(one.took for each in results.values() for one in each):.0f} s of CPU in the rows")
    if asked.write:
        import canary_plots

        canary_plots.draw(results, judged, asked.write.parent)
        before, _, rest = asked.write.read_text().partition("<!-- simulation -->\n")
        after = rest.partition("<!-- end of simulation -->")[2]
        asked.write.write_text(f"{before}<!-- simulation -->\n{text}<!-- end of simulation -->{after}")
    return results


if __name__ == "__main__":
    main()
