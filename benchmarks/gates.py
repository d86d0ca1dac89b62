"""How often does a gate let a worse candidate through, and how many examples does it take? Proof by simulation, seeded.

    python benchmarks/gates.py                              # the tables, in about a minute
    python benchmarks/gates.py --write docs/gates.md        # and into the page, with its plot

The product's own intervals decide. What happens to accuracy depends on few counts, so its chances are summed exactly;
the rest is drawn, and the upper end of the 99 % interval of a share stands beside it.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from scipy import stats

from modelyard.evaluation.measure import apart, difference, measured
from modelyard.evaluation.report import EvaluationReport, Metric
from modelyard.reports.canvas import ACCENT, BAD, GOOD, LINE, SECOND, WIDTH, svg
from modelyard.statistics import bootstrap
from modelyard.statistics.intervals import Interval, clopper_pearson, tango, wilson
from modelyard.statistics.paired import mcnemar
from modelyard.statistics.power import for_paired_accuracy
from modelyard.statistics.repeated import corrected_t

Array = npt.NDArray[Any]
Paired = Callable[[int, int, int], Interval]
MARGIN = 0.02
SIZES = (270, 540)
DIFFER = (0.021, 0.03, 0.06, 0.12)
"""Share of examples on which the two models differ."""
MARKS = ("<!-- simulation -->\n", "<!-- end of simulation -->")


# accuracy against the champion: chances summed


def percentile(gained: int, lost: int, total: int) -> Interval:
    """The percentile bootstrap with infinitely many resamples: exact quantiles of the sum of `total` steps of ±1."""
    size = 2 * total + 1
    turn = np.exp(-2j * np.pi * np.fft.fftfreq(size))
    step = (gained * turn + lost / turn + (total - gained - lost)) / total
    chances = np.fft.fftshift(np.fft.ifft(step**total).real)
    reached = np.cumsum(chances)
    low, high = (np.searchsorted(reached, tail) - total for tail in (0.025, 0.975))
    return Interval(low / total, high / total)


def bca(gained: int, lost: int, total: int) -> Interval:
    """The paired BCa bootstrap of 2,000 resamples (Efron 1987), which resamples the three counts."""
    counts, worth = np.array([gained, lost, total - gained - lost]), np.array([1.0, -1.0, 0.0])
    values = np.random.default_rng(0).multinomial(total, counts / total, size=2000) @ worth / total
    return bca_of((gained - lost) / total, values, np.repeat(worth, counts))


def bca_of(point: float, values: Array, influence: Array) -> Interval:
    """BCa bounds from resamples, and from influences the acceleration."""
    if np.ptp(values) == 0:
        return Interval(point, point)
    edge = 0.5 / len(values)
    bias = stats.norm.ppf(np.clip(np.mean(values < point) + 0.5 * np.mean(values == point), edge, 1 - edge))
    away = influence - influence.mean()
    skew = float(np.sum(away**3) / (6 * np.sum(away**2) ** 1.5))
    z = bias + stats.norm.ppf([0.025, 0.975])
    low, high = np.quantile(values, stats.norm.cdf(bias + z / (1 - skew * z)))
    return Interval(float(low), float(high))


def wald(gained: int, lost: int, total: int) -> Interval:
    """The textbook's: difference ± 1.96 standard errors."""
    point = (gained - lost) / total
    half = 1.96 * math.sqrt(max(0.0, (gained + lost) / total - point * point) / total)
    return Interval(point - half, point + half)


def passing(paired: Paired, total: int, up: float, down: float, margin: float) -> float:
    """Chance that "not worse by `margin`" passes, where `up` and `down` are the chances of a gained and a lost pair."""
    share = 0.0
    spread = 8 * math.sqrt(total * down * (1 - down)) + 8
    for lost in range(max(0, int(total * down - spread)), min(total, int(total * down + spread)) + 1):
        chance = stats.binom.pmf(lost, total, down)
        if chance < 1e-9:
            continue
        low, high = 0, total - lost + 1  # one more gained pair never lowers the bound
        top = int(total * up + 8 * math.sqrt(total * up) + 8)
        high = min(high, top)
        while low < high:
            middle = (low + high) // 2
            if paired(middle, lost, total).low >= -margin - 1e-12:
                high = middle
            else:
                low = middle + 1
        share += chance * stats.binom.sf(low - 1, total - lost, up / (1 - down))
    return float(share)


def boundary() -> Iterator[tuple[str, ...]]:
    """A candidate that is worse by exactly the margin."""
    for total in SIZES:
        for differ in DIFFER:
            up, down = (differ - MARGIN) / 2, (differ + MARGIN) / 2
            shares = (passing(one, total, up, down, MARGIN) for one in (tango, bca, percentile, wald))
            yield (f"{total}", f"{differ:.1%}", *(f"{share:.1%}" for share in shares))


def equals() -> Iterator[tuple[str, ...]]:
    """A candidate that is just as good, under `betterThanChampion`."""
    for total in SIZES:
        for differ in DIFFER:
            share = 0.0
            for both in range(total + 1):
                lucky = stats.binom.isf(0, both, 0.5)
                least = next((gained for gained in range(both + 1) if mcnemar(gained, both - gained) <= 0.025), None)
                if least is not None and lucky is not None:
                    share += stats.binom.pmf(both, total, differ) * stats.binom.sf(least - 1, both, 0.5)
                if both > total * differ + 10 * math.sqrt(total * differ):
                    break
            yield f"{total}", f"{differ:.1%}", f"{share:.1%}"


def power(margins: Sequence[float], sizes: Sequence[int], *, differ: float = 0.04) -> dict[float, list[float]]:
    """Chance that a candidate that is just as good passes, by margin and number of examples."""
    return {margin: [passing(tango, total, differ / 2, differ / 2, margin) for total in sizes] for margin in margins}


# everything else: drawn


class Population:
    """Many examples, each with a label and what two models answer, of which a test set is drawn."""

    def __init__(self, seed: int = 11, size: int = 40_000) -> None:
        rng = np.random.default_rng(seed)
        self.labels = rng.choice(4, size, p=(0.4, 0.3, 0.2, 0.1))
        shared = rng.normal(size=(size, 4))
        shared[np.arange(size), self.labels] += 3.2
        self.mine, self.theirs = (self._chances(shared + spread * rng.normal(size=(size, 4))) for spread in (0.55, 0.3))

    @staticmethod
    def _chances(logits: Array) -> Array:
        raised = np.exp(1.5 * logits)
        return raised / raised.sum(axis=1, keepdims=True)

    def reports(self, rows: Array) -> tuple[EvaluationReport, EvaluationReport]:
        """Both models on the same examples."""
        one, other = (self._report(chances[rows], rows) for chances in (self.mine, self.theirs))
        return one, other

    def _report(self, chances: Array, rows: Array) -> EvaluationReport:
        return EvaluationReport(
            model="", variant="", split="test", split_digest="", kind="class", classes=tuple("abcd"),
            examples=len(rows), metrics={}, ids=tuple(map(str, range(len(rows)))),
            labels=tuple(self.labels[rows].tolist()), predictions=tuple(chances.argmax(axis=1).tolist()),
            probabilities=tuple(map(tuple, chances.tolist())),
        )  # fmt: skip


CLASSES = ("balanced-accuracy", "recall:d", "precision:d", "f1:d", "precision-macro", "f1-macro", "f1-weighted",
           "auroc", "average-precision", "log-loss", "brier")  # fmt: skip
NUMBERS = ("mae", "rmse", "r2")
DRAWS = 2000
"""Test sets that are drawn of each."""


def other_metrics() -> Iterator[tuple[str, ...]]:
    """Each metric on its boundary: the margin is the true difference, and the limit is the true value."""
    for total in (100, 270):
        for names, whole in ((CLASSES, Population()), (NUMBERS, Regressions())):
            everything = np.arange(len(whole.labels))
            mine, theirs = whole.reports(everything)
            truths = {name: (difference(mine, theirs, name).value, measured(mine, name).value) for name in names}
            rng = np.random.default_rng(5)
            drawn = [whole.reports(rng.integers(0, len(everything), total)) for _ in range(DRAWS)]
            for name in names:
                yield _on_its_boundary(name, drawn, *truths[name])


def _on_its_boundary(name: str, drawn: Sequence[tuple[Any, Any]], gap: float, truth: float) -> tuple[str, ...]:
    worse = covered = limit = 0
    for one, other in drawn:
        found, alone = difference(one, other, name), measured(one, name)
        worse += found.low >= gap
        covered += found.low <= gap <= found.high
        limit += alone.low >= truth if alone.better == "higher" else alone.high <= truth
    draws = len(drawn)
    return (
        name, found.method, f"{drawn[0][0].examples}", *_share(worse, draws), f"{covered / draws:.1%}",
        alone.method, f"{limit / draws:.1%}",
    )  # fmt: skip


def resampled(total: int = 270, draws: int = 600) -> Iterator[tuple[str, ...]]:
    """The log loss as if it were the recipe's own, known from 400 resamples; and by other intervals of the same."""
    whole, rng = Population(), np.random.default_rng(7)
    losses = [
        -np.log(np.clip(each[np.arange(len(each)), whole.labels], 1e-7, 1)) for each in (whole.theirs, whole.mine)
    ]
    better = losses[0] - losses[1]
    truth, passed = float(better.mean()), np.zeros(3)
    for _ in range(draws):
        gaps = better[rng.integers(0, len(better), total)]
        values = rng.multinomial(total, np.full(total, 1 / total), size=400) @ gaps / total
        point = float(gaps.mean())
        student = point - stats.t.ppf(0.975, total - 1) * stats.sem(gaps)
        bounds = (bootstrap.bounds(point, values).low, bca_of(point, values, gaps).low, student)
        passed += [low >= truth for low in bounds]
    for name, count in zip(("half the tails (ours)", "BCa", "Student's t"), passed, strict=True):
        yield (name, f"{total}", *_share(int(count), draws))


class Regressions:
    """Numbers, and what two models guess: with heavy tails, and worse where the label is large."""

    def __init__(self, seed: int = 12, size: int = 40_000) -> None:
        rng = np.random.default_rng(seed)
        self.labels = rng.lognormal(1.0, 0.6, size)
        shared = rng.standard_t(4, size)
        self.guesses = [
            self.labels + 0.15 * self.labels * (shared + spread * rng.standard_t(4, size)) for spread in (0.9, 0.5)
        ]

    def reports(self, rows: Array) -> tuple[EvaluationReport, EvaluationReport]:
        """Both models on the same examples."""
        one, other = (
            EvaluationReport(
                model="", variant="", split="test", split_digest="", kind="number", examples=len(rows), metrics={},
                ids=tuple(map(str, range(len(rows)))), labels=tuple(self.labels[rows].tolist()),
                predictions=tuple(guesses[rows].tolist()),
            )
            for guesses in self.guesses
        )  # fmt: skip
        return one, other


def limits() -> Iterator[tuple[str, ...]]:
    """Rules against a number of their own, on the boundary."""
    for total in SIZES:
        for truth in (0.9, 0.99):
            least = next(hits for hits in range(total + 1) if wilson(hits, total).low >= truth or hits == total)
            sure = wilson(least, total).low >= truth
            share = float(stats.binom.sf(least - 1, total, truth)) if sure else 0.0
            yield f"accuracy atLeast {truth}", f"{total}", f"{share:.1%}", DASH
    whole, rng, draws = Population(), np.random.default_rng(6), 300
    truth = measured(whole.reports(np.arange(len(whole.labels)))[0], "ece").value
    passed = sum(
        measured(whole.reports(rng.integers(0, len(whole.labels), 540))[0], "ece").high <= truth for _ in range(draws)
    )
    yield (f"maxCalibrationError {truth:.3f}", "540", *_share(passed, draws))
    learnt, unseen = 0.95, 0.90
    rows = rng.binomial((2000, 270), (learnt, unseen), size=(5000, 2))
    passed = sum(_overfit(int(a), int(b)) <= learnt - unseen for a, b in rows)
    yield ("accuracy maxOverfit 0.05", "2000 and 270", *_share(passed, len(rows)))
    latencies = np.random.default_rng(8).lognormal(1.0, 0.5, size=(3000, 100))
    limit = float(np.exp(1.0 + 0.5 * stats.norm.ppf(0.9)))
    passed = int((np.sort(latencies, axis=1)[:, 95] <= limit).sum())
    yield ("maxLatency at the true p90", "100", *_share(passed, len(latencies)))


def _overfit(learnt: int, unseen: int) -> float:
    one, other = (
        Metric(value=hits / total, low=bounds.low, high=bounds.high)
        for hits, total, bounds in ((learnt, 2000, wilson(learnt, 2000)), (unseen, 270, wilson(unseen, 270)))
    )
    return apart(one, other).high


def trainings(draws: int = 600) -> Iterator[tuple[str, ...]]:
    """A recipe (nearest class mean, 4 features, 100 examples) whose true accuracy is the limit of `atLeast`."""
    rng = np.random.default_rng(9)
    for folds, repeats in ((5, 1), (5, 2), (10, 3)):
        truth = np.mean([_nearest(*_points(rng, 100 - 100 // folds), *_points(rng, 4000)) for _ in range(300)])
        corrected = naive = 0
        for _ in range(draws):
            features, labels = _points(rng, 100)
            scores = []
            for _ in range(repeats):
                place = rng.permutation(100) % folds
                scores += [
                    _nearest(features[place != at], labels[place != at], features[place == at], labels[place == at])
                    for at in range(folds)
                ]
            corrected += corrected_t(scores, 1 / (folds - 1)).low >= truth
            naive += corrected_t(scores, 0.0).low >= truth
        yield f"{folds} × {repeats}", *_share(corrected, draws), *_share(naive, draws)


def _points(rng: np.random.Generator, count: int) -> tuple[Array, Array]:
    labels = rng.integers(0, 2, count)
    return rng.normal(size=(count, 4)) + labels[:, None] * 0.9, labels


def _nearest(features: Array, labels: Array, unseen: Array, wanted: Array) -> float:
    means = np.stack([features[labels == which].mean(axis=0) for which in (0, 1)])
    away = ((unseen[:, None, :] - means) ** 2).sum(axis=2)
    return float((away.argmin(axis=1) == wanted).mean())


# the page

DASH = "exact"


def _share(count: int, of: int) -> tuple[str, str]:
    return f"{count / of:.1%}", f"{clopper_pearson(int(count), of, 0.99).high:.1%}"


def table(title: str, headers: Sequence[str], rows: Iterator[tuple[str, ...]]) -> str:
    """As Markdown."""
    lines = ["| " + " | ".join(row) + " |" for row in (tuple(headers), ("---",) * len(headers), *rows)]
    return f"### {title}\n\n" + "\n".join(lines) + "\n"


def tables() -> str:
    """All of them."""
    high = "upper end of its 99 % interval"
    needed = [(f"{margin:g}", f"{for_paired_accuracy(0.04, margin):,}") for margin in (0.005, 0.01, 0.02, 0.05)]
    parts = [
        table(f"Worse by exactly the margin of {MARGIN}, and passed (wanted: at most 2.5 %)",
              ("examples", "the models differ on", "Tango (ours)", "paired BCa bootstrap", "percentile bootstrap",
               "textbook"), boundary()),
        table("Just as good, and passed as better (McNemar; at most 2.5 %)",
              ("examples", "the models differ on", "share"), equals()),
        table("Other metrics, worse by exactly the margin, and passed; and with the truth on a limit (about 2.5 %)",
              ("metric", "interval of the difference", "examples", "share", high, "it holds the truth (95 %)",
               "interval of the metric", "on a limit, and passed"), other_metrics()),
        table("A metric of the recipe's own (here log loss), worse by exactly the margin, and passed (about 2.5 %)",
              ("interval", "examples", "share", high), resampled()),
        table("Rules with a limit, the truth on the limit, and passed (about 2.5 %)",
              ("rule", "examples", "share", high), limits()),
        table("A recipe judged by trainings anew, its true accuracy on the limit, and passed (about 2.5 %)",
              ("folds × repeats", "corrected t (ours)", high, "as if independent", high), trainings()),
        table("Examples until an equal candidate passes in 80 % of all draws, where the models differ on 4 %",
              ("margin", "examples"), iter(needed)),
    ]  # fmt: skip
    return "\n".join(parts)


def plot() -> str:
    """The power curve."""
    sizes = [100, 150, 200, 270, 400, 540, 800, 1200, 2000, 3000, 5000, 8000]
    curves = power((0.005, 0.01, 0.02, 0.05), sizes)

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0.09, 0.17, 0.87, 0.68))
        axes.set_title("Chance that a candidate just as good as the champion passes, by margin")
        axes.axhline(0.8, color=LINE, linewidth=1)
        for (margin, shares), colour in zip(curves.items(), (BAD, SECOND, ACCENT, GOOD), strict=True):
            axes.plot(sizes, shares, color=colour)
            at = min(range(len(sizes)), key=lambda place: abs(shares[place] - 0.5))  # where curves are apart
            axes.annotate(f"margin {margin:g}", (sizes[at], shares[at]), xytext=(8, -10), textcoords="offset points",
                          color=colour)  # fmt: skip
        axes.set_xscale("log")
        axes.set_xticks([100, 270, 540, 1200, 3000, 8000], ["100", "270", "540", "1,200", "3,000", "8,000"])
        axes.minorticks_off()
        axes.set_xlabel("examples (the models differ on 4 % of them)")
        axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1], ["0", "20 %", "40 %", "60 %", "80 %", "100 %"])

    return str(svg(WIDTH, 320, draw, label="Power of the rule notWorseThanChampion by margin and number of examples"))


def main(argv: list[str] | None = None, say: Callable[[str], None] = print) -> None:
    """Make the tables and, where asked, the page and its plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="page whose part between the marks is replaced; a plot beside it")
    asked = parser.parse_args(argv)
    began = time.process_time()
    text = tables()
    say(text)
    say(f"{time.process_time() - began:.0f} s of CPU")
    if asked.write:
        (asked.write.parent / "gates-power.svg").write_text(plot())
        before, _, rest = asked.write.read_text().partition(MARKS[0])
        after = rest.partition(MARKS[1])[2]
        shown = f"{text}\n![Power by margin and number of examples](gates-power.svg)\n"
        asked.write.write_text(f"{before}{MARKS[0]}{shown}{MARKS[1]}{after}")


if __name__ == "__main__":
    main()
