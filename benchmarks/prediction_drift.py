"""How often does `prediction-drift` err, and how long does it take? Seeded simulation, in numpy; a minute of CPU.

    python benchmarks/prediction_drift.py
    python benchmarks/prediction_drift.py --full --write docs/canary-analysis.md

`Twin` is `modelyard.rollout.drift` for many rollouts at once; a unit test holds it equal to the product. False aborts
are counted without stopping for a success, false successes without stopping for an abort: both are upper bounds.
"""

import argparse
import math
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from modelyard.rollout import bets, drift, streams
from modelyard.rollout.analysis import _CARRIED, SPENT
from modelyard.statistics.intervals import clopper_pearson

Array = np.ndarray
FALSE_ALARM, MISS = 0.01, 0.05
ALARM, SUCCESS = -math.log(FALSE_ALARM), -math.log(SPENT * MISS)
MIN_REQUESTS = 10
BEFORE = 2000
"""Stable's earlier traffic."""
BEGIN, END = "<!-- drift -->", "<!-- end of drift -->"


class Twin:
    """All rollouts of one kind. Counts are (classes, rollouts)."""

    def __init__(self, before: Array, margin: float) -> None:
        self.margin = margin
        self.stable, self.canary = before.astype(float), np.zeros(before.shape)
        rollouts = before.shape[1]
        self.logs = np.full((len(drift.BELIEFS), rollouts), -np.inf)
        self.blocks = 0
        self.sums, self.weight = np.zeros(before.shape), np.zeros(rollouts)
        self.apart, self.judged = np.zeros(before.shape), np.zeros(rollouts)
        self.alarm, self.success, self.beyond = np.zeros(rollouts), np.zeros(rollouts), np.zeros(rollouts, bool)

    def look(self, stable: Array, canary: Array) -> None:
        """One block."""
        here, there = stable.sum(0), canary.sum(0)
        self._alarm(self._worths(stable, canary, here, there))
        weight = here * there / (here + there)
        apart = weight * (canary / there - stable / here)
        self.sums, self.weight = self.sums + apart, self.weight + weight
        self.success = self._against()
        shrink = np.where(self.success > SUCCESS + _CARRIED, (SUCCESS + _CARRIED) / self.success, 1.0)
        self.sums, self.weight = self.sums * shrink, self.weight * shrink
        self.success = self._against()
        fade = np.minimum(1.0, bets.JUDGED / (self.judged + weight))
        self.apart, self.judged = (self.apart + apart) * fade, (self.judged + weight) * fade
        self.stable, self.canary = _learnt(self.stable + stable), _learnt(self.canary + canary)
        share = self.stable / self.stable.sum(0)
        chance = np.sqrt(share * (1 - share) / (2 * np.pi * self.judged)).sum(0)
        self.beyond = np.maximum(self.apart, 0).sum(0) / self.judged - chance > self.margin

    def _worths(self, stable: Array, canary: Array, here: Array, there: Array) -> Array:
        known = self.stable + self.canary > 0

        def cells(counts: Array) -> Array:
            mine = np.where(known, counts, 0.0)
            return np.vstack([mine, counts.sum(0) - mine.sum(0)])

        past, own, s, c = (cells(one) for one in (self.stable, self.canary, stable, canary))
        some = np.vstack([known, np.ones(known.shape[1], bool)])
        base = np.where(some, (past + 0.5) / (past.sum(0) + 0.5 * some.sum(0)), 1.0)
        share = here / (here + there)
        worths = []
        for belief in drift.BELIEFS:
            bet = np.where(some, (own + belief * base) / (own.sum(0) + belief), 1.0)
            mean = share * base + (1 - share) * bet
            worths.append((s * np.log(base / mean) + c * np.log(bet / mean)).sum(0))
        return np.array(worths)

    def _alarm(self, worths: Array) -> None:
        t = self.blocks
        fresh = math.log((1 - bets.RESERVE) if t == 0 else bets.RESERVE / (t * (t + 1)))
        self.logs = np.logaddexp(self.logs, fresh) + worths
        staked = self.logs + np.log(bets.STAKES)[:, None]
        self.alarm = np.logaddexp(np.logaddexp.reduce(staked, axis=0), math.log(bets.RESERVE / (t + 1)))
        self.blocks += 1

    def _against(self) -> Array:
        worst = np.maximum(self.sums, 0).sum(0)
        stakes = np.array(drift.STAKES)[:, None] * self.margin
        logs = stakes * (self.weight * self.margin - worst) - stakes**2 * self.weight / 8
        return np.logaddexp.reduce(logs, axis=0) - math.log(len(drift.STAKES))


def _learnt(past: Array) -> Array:
    """As a stream does, but for halves of requests."""
    return np.where(past.sum(0) > streams.MEMORY, past / 2, past)


@dataclass(frozen=True)
class Scene:
    """One kind of rollout."""

    name: str
    stop: str
    """alarm, success, or either."""
    stable: tuple[float, ...]
    canary: tuple[float, ...]
    margin: float = 0.1
    weight: float = 0.05
    per_look: int = 100
    drifting: bool = False
    """The mix of classes and the canary's share of the traffic change together, for both arms alike."""


def even(classes: int) -> tuple[float, ...]:
    """All alike."""
    return (1 / classes,) * classes


def skewed(classes: int) -> tuple[float, ...]:
    """The k-th class comes in proportion to 1/k."""
    parts = [1 / place for place in range(1, classes + 1)]
    return tuple(part / sum(parts) for part in parts)


def moved(shares: tuple[float, ...], by: float, *, spread: bool) -> tuple[float, ...]:
    """So much goes from the last classes to the first ones: from a half to the other, or from as few as can give it."""
    taken, given, half = list(shares), list(shares), len(shares) // 2
    if spread:
        given = [s + by / half if place < half else s - by / (len(shares) - half) for place, s in enumerate(shares)]
        return tuple(given)
    left = by
    for place in reversed(range(1, len(shares))):
        took = min(left, taken[place])
        given[place], left = given[place] - took, left - took
    given[0] += by
    return tuple(given)


SCENES = (
    *(
        Scene(f"{kind.__name__}, {classes} classes, weight {weight:.0%}", "alarm", kind(classes), kind(classes),
              weight=weight)
        for kind, classes in ((even, 2), (even, 10), (skewed, 50))
        for weight in (0.05, 0.5)
    ),
    Scene("even, 10 classes, mix and weights change together", "alarm", even(10), even(10), drifting=True),
    *(
        Scene(f"{kind.__name__}, {classes} classes, weight {weight:.0%}, 10 points {how}", "success", kind(classes),
              moved(kind(classes), 0.1, spread=how == "over all classes"), weight=weight)
        for kind, classes in ((even, 2), (even, 10), (skewed, 50))
        for weight in (0.05, 0.5)
        for how in ("to one class", "over all classes")
        if not (kind is skewed and how == "over all classes") and not (classes == 2 and how == "over all classes")
    ),
    Scene("even, 10 classes, mix and weights change together, 10 points", "success", even(10),
          moved(even(10), 0.1, spread=True), drifting=True),
    *(
        Scene(f"even, 10 classes, {points} points {how}, margin 10 points, weight {weight:.0%}", "either", even(10),
              moved(even(10), points / 100, spread=how == "over all classes"), weight=weight)
        for points, how in ((0, "anywhere"), (3, "over all classes"), (20, "over all classes"), (20, "to one class"),
                            (40, "to one class"))
        for weight in (0.05, 0.5)
    ),
)  # fmt: skip


def played(scene: Scene, rollouts: int, looks: int, seed: int) -> tuple[float, float, Array]:
    """Share of aborts, share of successes, and requests until the first of them (both arms; NaN: neither)."""
    rng = np.random.default_rng(seed)
    stable, canary = np.array(scene.stable), np.array(scene.canary)
    other = (stable + np.array(moved(scene.stable, 0.4, spread=False))) / 2 if scene.drifting else None
    twin = Twin(rng.multinomial(BEFORE, stable, size=rollouts).T, scene.margin)
    done, counted, spent = np.zeros(rollouts, int), 0, 0
    requests = np.full(rollouts, np.nan)
    for look in range(looks):
        mine, theirs, weight = stable, canary, scene.weight
        if other is not None and look >= looks // 3:  # what comes changes, for both arms by as much
            mine, theirs, weight = other, other + canary - stable, 0.5
        share = max(1, round(scene.per_look * weight))
        twin.look(
            rng.multinomial(scene.per_look - share, mine, size=rollouts).T,
            rng.multinomial(share, theirs, size=rollouts).T,
        )
        counted, spent = counted + share, spent + scene.per_look
        if counted < MIN_REQUESTS:
            continue
        failed = (twin.alarm >= ALARM) & twin.beyond & (scene.stop != "success")
        passed = (twin.success >= SUCCESS) & (scene.stop != "alarm") & ~failed
        new = (done == 0) & (failed | passed)
        done[new], requests[new] = np.where(failed, 1, 2)[new], spent
        if done.all():
            break
    return float((done == 1).mean()), float((done == 2).mean()), requests


def table(rollouts: int, looks: int) -> str:
    """All scenes as Markdown."""
    told: dict[str, list[str]] = {"alarm": [], "success": [], "either": []}
    for place, scene in enumerate(SCENES):
        begun = time.process_time()
        failed, passed, requests = played(scene, rollouts, looks if scene.stop != "either" else looks * 2, seed=place)
        if scene.stop == "either":
            half, most = np.nanquantile(requests, [0.5, 0.9]) if np.isfinite(requests).any() else (np.nan, np.nan)
            told["either"].append(f"| {scene.name} | {failed:.1%} | {passed:.1%} | {half:,.0f} ({most:,.0f}) |")
        else:
            share, allowed = (failed, FALSE_ALARM) if scene.stop == "alarm" else (passed, MISS)
            high = clopper_pearson(round(share * rollouts), rollouts, 0.99)[1]
            told[scene.stop].append(f"| {scene.name} | {share:.2%} | {high:.2%} | {allowed:.1%} |")
        print(f"{scene.name}: {time.process_time() - begun:.1f} s of CPU", file=sys.stderr, flush=True)
    head = "| canary | share | upper end of its 99 % interval | allowed |\n|---|---|---|---|"
    times = "| canary | aborted | Successful | requests of both arms until then: median (90 %) |\n|---|---|---|---|"
    titles = (
        ("alarm", "Predictions alike: aborted", head),
        ("success", "Predictions away by exactly the margin: Successful", head),
        ("either", "How long it takes", times),
    )
    parts = [f"#### {title}\n\n{top}\n" + "\n".join(told[stop]) for stop, title, top in titles]
    ends = f"{rollouts:,} rollouts a row, {looks:,} looks of 100 requests (twice as many for times); seeded."
    return "\n\n".join([*parts, ends]) + "\n"


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--full", action="store_true", help="5,000 rollouts a row instead of 1,000")
    parser.add_argument("--write", type=Path, help="a page with the marks between which the tables stand")
    given = parser.parse_args()
    said = table(*((5000, 300) if given.full else (1000, 300)))
    if given.write is None:
        print(said)
        return 0
    page = given.write.read_text("utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    given.write.write_text(f"{before}{BEGIN}\n{said}{END}{after}", "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
