"""A world in virtual time: servers, a router and clients that a truth describes. `simulate` runs the real loop over it.

Requests are dealt out by chance (Poisson), errors come independently, latencies are lognormal. One loop is alone here,
so nothing ever changes under it and no version is checked.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from itertools import accumulate
from pathlib import Path

from modelyard.record import record
from modelyard.registry.port import Candidate, Version
from modelyard.rollout.analysis import LATENCY_BOUNDS_MS
from modelyard.rollout.intents import EnsureArm
from modelyard.rollout.observation import Arm, Counts, Weights
from modelyard.rollout.ports import World
from modelyard.spec.deployment import ModelDeployment
from modelyard.spec.rollout import ModelRollout

STABLE, CANARY = "1", "2"
"""The two versions there are."""
_SIGMA = 0.5
_CLASSES = "0123456789"
_NOTHING = Counts(at=0, requests=0, errors=0, latency=(0,) * (len(LATENCY_BOUNDS_MS) + 1), bounds=LATENCY_BOUNDS_MS)


@record
class Truth:
    """What is really so, which the analysis has to find out."""

    rps: float = 50.0
    """Requests a second, both arms together."""
    errors: float = 0.01
    """Share of failed attempts on stable."""
    regression: float = 0.0
    """How much larger the canary's share is."""
    median_ms: float = 20.0
    slower: float = 0.0
    """How much longer the canary takes: 0.5 is half as long again."""
    drift: float = 0.0
    """How far the canary's predicted classes are from stable's; they are ten, and stable's come alike."""
    ready_s: float = 5.0
    """Until an arm is ready."""


class Records:
    """The `Records` port."""

    def __init__(self) -> None:
        self.wish: ModelDeployment | None = None
        self.attempts: dict[str, ModelRollout] = {}
        self._writes = 0

    def keys(self) -> tuple[str, ...]:
        """The one there is."""
        return () if self.wish is None else (f"default/{self.wish.metadata.name}",)

    def deployment(self, _key: str) -> ModelDeployment | None:
        """The wish."""
        return self.wish

    def rollouts(self, _key: str) -> tuple[ModelRollout, ...]:
        """Attempts, oldest first."""
        return tuple(self.attempts.values())

    def write(self, record: ModelDeployment | ModelRollout) -> ModelDeployment | ModelRollout:
        """Store it."""
        self._writes += 1
        written = replace(record, metadata=replace(record.metadata, resource_version=str(self._writes)))
        if isinstance(written, ModelRollout):
            self.attempts[written.metadata.name] = written
        else:
            self.wish = written
        return written

    def delete(self, record: ModelDeployment | ModelRollout) -> None:
        """Forget it."""
        self.attempts.pop(record.metadata.name, None)


class Registry:
    """The `Registry` port: two versions, and an alias that names one."""

    def __init__(self) -> None:
        self.named = STABLE

    def register(self, candidate: Candidate) -> Version:
        """Nothing is registered here."""
        raise NotImplementedError(candidate.model)

    def fetch(self, version: Version, into: Path) -> Path:
        """There are no bytes."""
        raise NotImplementedError(f"{version.version} into {into}")

    def versions(self, model: str) -> tuple[Version, ...]:
        """Both."""
        return tuple(Version(model=model, version=each, digest=f"sha256:{each}") for each in (STABLE, CANARY))

    def resolve(self, model: str, _alias: str) -> Version:
        """What is named."""
        return next(each for each in self.versions(model) if each.version == self.named)

    def move_alias(self, _model: str, _alias: str, version: str, *, expected: str | None) -> None:
        """Name another."""
        if self.named == expected:
            self.named = version

    def tag(self, model: str, version: str, tags: Mapping[str, str]) -> None:
        """Nobody reads them."""


class Traffic:
    """The ports `Arms`, `Router` and `Counters`, and the clients."""

    def __init__(self, truth: Truth, chance: random.Random, predicted: random.Random | None = None) -> None:
        self.now = 0.0
        self.there: dict[str, Arm] = {}
        self.in_force: Mapping[str, int] = {}
        self.served: dict[str, Counts] = {}
        self._truth, self._chance, self._predicted = truth, chance, predicted
        self._asked: Mapping[str, int] = {}
        self._ready_at: dict[str, float] = {}

    def arms(self, _key: str) -> Mapping[str, Arm]:
        """Those that there are."""
        return dict(self.there)

    def ensure(self, _key: str, arm: EnsureArm) -> None:
        """Ready after `ready_s`."""
        before = self.there.get(arm.name)
        ready = 0 if before is None else min(before.ready, arm.replicas)
        self._ready_at[arm.name] = self.now + self._truth.ready_s
        self.there[arm.name] = Arm(
            name=arm.name,
            version=arm.version,
            digest=arm.digest,
            replicas=arm.replicas,
            ready=ready,
            rollout=arm.rollout,
        )

    def retire(self, _key: str, name: str, *, expected: str) -> None:
        """Gone."""
        if name in self.there and self.there[name].resource_version == expected:
            del self.there[name]

    def weights(self, _key: str) -> Weights:
        """What was asked is in force, and confirmed, a look later."""
        return Weights(asked=self._asked, confirmed=self.in_force)

    def set_weights(self, _key: str, weights: Mapping[str, int], *, expected: str) -> None:
        """Ask."""
        if not expected:
            self._asked = dict(weights)

    def counts(self, _key: str) -> Mapping[str, Counts]:
        """As the router would tell them."""
        return {name: replace(each, at=self.now) for name, each in self.served.items()}

    def pass_time(self, seconds: float) -> None:
        """Clients follow the weights in force; then servers and the router catch up."""
        self.now += seconds
        for name, share in self.in_force.items():
            if share:
                self._serve(name, self._truth.rps * seconds * share / 100)
        self.in_force = self._asked
        for name, arm in self.there.items():
            if self.now >= self._ready_at[name]:
                self.there[name] = replace(arm, ready=arm.replicas)

    def _serve(self, name: str, mean: float) -> None:
        truth, before = self._truth, self.served.get(name, _NOTHING)
        worse = self.there[name].version == CANARY
        count = _poisson(mean, self._chance)
        errors = _binomial(count, truth.errors + truth.regression * worse, self._chance)
        places = self._chance.choices(
            range(len(before.latency)),
            cum_weights=_lognormal(truth.median_ms * (1 + truth.slower * worse)),
            k=count - errors,
        )
        answers = [0] * len(before.latency)
        for place in places:
            answers[place] += 1
        latency = tuple(old + new for old, new in zip(before.latency, accumulate(answers), strict=True))
        requests, failed = before.requests + count, before.errors + errors
        classes = before.classes
        if self._predicted is not None:
            away = truth.drift * worse
            weights = (0.1 + away, *(0.1 - away / (len(_CLASSES) - 1),) * (len(_CLASSES) - 1))
            drawn = self._predicted.choices(_CLASSES, weights, k=count - errors)
            classes = {label: (classes or {}).get(label, 0) + drawn.count(label) for label in _CLASSES}
        self.served[name] = replace(before, requests=requests, errors=failed, latency=latency, classes=classes)


def world(traffic: Traffic, records: Records, registry: Registry) -> World:
    """The five ports."""
    return World(records=records, registry=registry, arms=traffic, router=traffic, counters=traffic)


def _poisson(mean: float, chance: random.Random) -> int:
    """By its definition where it is small, by its normal limit where it is not."""
    if mean > 50:
        return max(0, round(chance.gauss(mean, math.sqrt(mean))))
    count, passed = 0, chance.expovariate(mean)
    while passed < 1:
        count, passed = count + 1, passed + chance.expovariate(mean)
    return count


def _binomial(count: int, share: float, chance: random.Random) -> int:
    spread = math.sqrt(count * share * (1 - share))
    if spread > 10:
        return min(count, max(0, round(chance.gauss(count * share, spread))))
    return sum(chance.random() < share for _ in range(count))


@cache
def _lognormal(median_ms: float) -> tuple[float, ...]:
    """The distribution at each bound, and 1."""
    scaled = (math.log(bound / median_ms) / (_SIGMA * math.sqrt(2)) for bound in LATENCY_BOUNDS_MS)
    return (*((1 + math.erf(one)) / 2 for one in scaled), 1.0)
