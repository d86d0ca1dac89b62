"""How often does a metric that is a mean of bounded values err, and how long does it take? Seeded; a minute of CPU.

    python benchmarks/bounded_mean.py
    python benchmarks/bounded_mean.py --full --write docs/canary-analysis.md

The arithmetic is `canary_twin.Twin`, which a unit test holds equal to the product on values too. False aborts are
counted without stopping for a success, false successes without stopping for an abort: both are upper bounds.
"""

import argparse
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from canary_twin import Metric, Twin

from modelyard.rollout.analysis import SPENT
from modelyard.statistics.intervals import clopper_pearson

Array = np.ndarray
Draw = Callable[[np.random.Generator, float, tuple[int, int]], Array]
FALSE_ALARM, MISS = 0.01, 0.05
ALARM, SUCCESS = -math.log(FALSE_ALARM), -math.log(SPENT * MISS)
MIN_REQUESTS, BEFORE, PER_LOOK = 10, 2000, 20
BEGIN, END = "<!-- bounded mean -->", "<!-- end of bounded mean -->"


def yes_or_no(rng: np.random.Generator, mean: float, size: tuple[int, int]) -> Array:
    """0 or 1: as far apart as values can be."""
    return rng.binomial(size[0], mean, size[1]).astype(float)


def stars(rng: np.random.Generator, mean: float, size: tuple[int, int]) -> Array:
    """Five grades, the middle ones rarest: how customers grade."""
    low = np.array([0.45, 0.06, 0.05, 0.09, 0.35])
    grades = np.linspace(0, 1, 5)
    push = (mean - low @ grades) / (1 - 2 * (low @ grades)) if mean != low @ grades else 0.0
    chance = low * (1 - push) + low[::-1] * push
    return np.asarray(rng.multinomial(size[0], chance, size=size[1]) @ grades)


def spread(rng: np.random.Generator, mean: float, size: tuple[int, int]) -> Array:
    """Evenly around the mean, as wide as the bounds let it."""
    wide = min(mean, 1 - mean)
    return np.asarray(rng.uniform(mean - wide, mean + wide, size=size).sum(axis=0))


def narrow(rng: np.random.Generator, mean: float, size: tuple[int, int]) -> Array:
    """Within a tenth of the bounds' width."""
    return np.asarray(rng.uniform(mean - 0.05, mean + 0.05, size=size).sum(axis=0))


def skewed(rng: np.random.Generator, mean: float, size: tuple[int, int]) -> Array:
    """Nearly always small, seldom the largest there is."""
    small = rng.uniform(0, mean, size=size)
    return np.asarray(np.where(rng.random(size) < mean / (2 - mean), 1.0, small).sum(axis=0))


@dataclass(frozen=True)
class Scene:
    """One kind of rollout."""

    name: str
    draw: Draw
    stable: float
    canary: float
    margin: float
    weight: float = 0.5
    stop: str = "either"
    """`alarm`: only aborts count; `success`: only successes."""
    drift: float = 0.0
    """Both means rise by so much in the middle, and the weight goes from 5 % to 50 %."""


def scenes() -> tuple[Scene, ...]:
    """All of them."""
    kinds = (("0 or 1", yes_or_no, 0.1), ("grades", stars, 0.45), ("evenly spread", spread, 0.3),
             ("within a tenth", narrow, 0.3), ("seldom the largest", skewed, 0.1))  # fmt: skip
    made = []
    for name, draw, mean in kinds:
        for weight in (0.05, 0.5):
            told = f"{name}, weight {weight:.0%}"
            made += [
                Scene(told, draw, mean, mean, 0.05, weight, "alarm"),
                Scene(told, draw, mean, mean + 0.05, 0.05, weight, "success"),
            ]
        made += [
            Scene(f"{name}, as good", draw, mean, mean, 0.05),
            Scene(f"{name}, worse by 0.15", draw, mean, mean + 0.15, 0.05),
        ]
    drifting = "evenly spread, means and weights drift"
    return (
        *made,
        Scene(drifting, spread, 0.1, 0.1, 0.05, stop="alarm", drift=0.3),
        Scene(drifting, spread, 0.1, 0.15, 0.05, stop="success", drift=0.3),
    )


def played(scene: Scene, rollouts: int, looks: int, seed: int) -> tuple[float, float, Array]:
    """Shares that were aborted and Successful, and the requests that it took where it came to an end."""
    rng = np.random.default_rng(seed)
    history = rows(scene.draw, rng, scene.stable, BEFORE // 100, rollouts) * 100
    twin = Twin(Metric(scene.margin), history=history, alarm=scene.stop != "success", success=scene.stop != "alarm")
    done, requests, spent = np.zeros(rollouts, int), np.full(rollouts, np.nan), 0
    for at in range(looks):
        late = bool(scene.drift) and at >= looks // 2
        more, weight = (scene.drift, 0.5) if late else (0.0, 0.05 if scene.drift else scene.weight)
        share = max(1, round(PER_LOOK * weight))
        twin.look(
            rows(scene.draw, rng, scene.stable + more, PER_LOOK - share, rollouts),
            rows(scene.draw, rng, scene.canary + more, share, rollouts),
        )
        spent += PER_LOOK
        enough = np.minimum(twin.counted_s, twin.counted_c) >= MIN_REQUESTS
        failed = enough & (twin.alarm >= ALARM) & twin.beyond & (scene.stop != "success")
        passed = enough & (twin.success >= SUCCESS) & (scene.stop != "alarm") & ~failed
        new = (done == 0) & (failed | passed)
        done[new], requests[new] = np.where(failed, 1, 2)[new], spent
        if done.all():
            break
    return float((done == 1).mean()), float((done == 2).mean()), requests


def rows(draw: Draw, rng: np.random.Generator, mean: float, requests: int, rollouts: int) -> Array:
    """What is not bad, and all: as streams take it."""
    total = np.full(rollouts, float(requests))
    return np.stack([total - draw(rng, mean, (requests, rollouts)), total])


def table(rollouts: int, looks: int) -> str:
    """All scenes as Markdown."""
    told: dict[str, list[str]] = {"alarm": [], "success": [], "either": []}
    for place, scene in enumerate(scenes()):
        failed, passed, requests = played(scene, rollouts, looks, seed=place)
        if scene.stop == "either":
            half, most = np.nanquantile(requests, [0.5, 0.9]) if np.isfinite(requests).any() else (np.nan, np.nan)
            told["either"].append(f"| {scene.name} | {failed:.1%} | {passed:.1%} | {half:,.0f} ({most:,.0f}) |")
        else:
            share, allowed = (failed, FALSE_ALARM) if scene.stop == "alarm" else (passed, MISS)
            high = clopper_pearson(round(share * rollouts), rollouts, 0.99)[1]
            told[scene.stop].append(f"| {scene.name} | {share:.2%} | {high:.2%} | {allowed:.1%} |")
    head = "| values | share | upper end of its 99 % interval | allowed |\n|---|---|---|---|"
    times = "| values | aborted | Successful | requests of both arms until then: median (90 %) |\n|---|---|---|---|"
    titles = (
        ("alarm", "Means alike: aborted", head),
        ("success", "The canary's mean worse by exactly the margin: Successful", head),
        ("either", "How long it takes at a weight of 50 %, margin 5 % of the bounds' width", times),
    )
    parts = [f"#### {title}\n\n{top}\n" + "\n".join(told[stop]) for stop, title, top in titles]
    ends = f"{rollouts:,} rollouts a row, {looks:,} looks of {PER_LOOK} requests; seeded."
    return "\n\n".join([*parts, ends]) + "\n"


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--full", action="store_true", help="5,000 rollouts a row instead of 500")
    parser.add_argument("--write", type=Path, help="a page with the marks between which the tables stand")
    given = parser.parse_args()
    began = time.process_time()
    said = table(*((5000, 600) if given.full else (500, 200)))
    print(f"{time.process_time() - began:.0f} s of CPU", file=sys.stderr)
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
