"""What is decided between the two readings of a source: what stays, and in which split and order. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelyard.data import split
from modelyard.data.clean import doubles, first_double
from modelyard.data.labels import find_classes
from modelyard.data.sources import Source
from modelyard.data.survey import Survey
from modelyard.errors import BadInput
from modelyard.spec.data import Data


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What was decided from the survey."""

    ids: Sequence[str]
    places: split.Places
    """Split of each surveyed example; -1: left out."""
    classes: Sequence[str]
    orders: Mapping[str, Sequence[int]]
    """For each split, the surveyed examples in the order in which they are stored."""
    counts: Mapping[str, int]


def decide(spec: Data, source: Source, seen: Survey) -> Plan:
    """What stays, and in which split and order.

    Raises:
        BadInput: doubled examples or ids, one class only, leakage or an empty split, where the spec refuses them.
    """
    ids = ids_of(seen)
    out = np.zeros(len(ids), bool)
    doubled = doubles(seen.contents, ids)
    if doubled.any() and spec.checks.duplicates == "refuse":
        at = int(np.argmax(doubled))
        raise BadInput(
            f"{source.where(seen.rows[at])} occurs twice ({int(doubled.sum())} such examples)",
            do="set data.checks.duplicates: drop, or correct the source",
        )
    if spec.checks.duplicates == "drop":
        out |= doubled
    kept = np.flatnonzero(~out)
    if twice := first_double([ids[at] for at in kept]):
        first, second = (source.where(seen.rows[kept[at]]) for at in twice)
        raise BadInput(
            f"{first} and {second} have one id, {ids[kept[twice[0]]]!r}", do="give each example an id of its own"
        )
    classes = find_classes([seen.labels[at] for at in kept], spec.labels) if spec.labels.kind == "class" else []
    places = np.full(len(ids), -1, np.int8)
    places[kept] = _split(spec, seen, [ids[at] for at in kept], kept)
    leaked = np.zeros(len(ids), bool)
    leaked[kept] = split.leaks([seen.features[at] for at in kept], places[kept])
    if leaked.any() and spec.checks.leakage == "refuse":
        raise BadInput(
            _leakage(source, seen, places, leaked), do="set data.checks.leakage to drop or keep, or split by a group"
        )
    if spec.checks.leakage == "drop":
        places[leaked] = -1
    stays = np.flatnonzero(places >= 0)
    split.check_filled(places[stays], spec.splits)
    ranked = sorted(stays.tolist(), key=lambda at: split.rank(spec.splits.seed, ids[at]))
    orders = {name: [at for at in ranked if places[at] == number] for number, name in enumerate(split.NAMES)}
    counts = {
        **{name: seen.counts[name] for name in ("read", "missing", "filled")},
        "duplicates": int(out.sum()),
        "leakage": int(leaked.sum()),
        **{name: len(order) for name, order in orders.items()},
    }
    return Plan(ids=ids, places=places, classes=classes, orders={n: o for n, o in orders.items() if o}, counts=counts)


def ids_of(seen: Survey) -> list[str]:
    """Given ids, else the content's digest; equal contents are told apart by a number."""
    if seen.roles.id is not None:
        return seen.ids
    times: dict[bytes, int] = {}
    ids = []
    for content in seen.all:
        times[content] = times.get(content, 0) + 1
        ids.append(content[:12].hex() + (f"-{times[content]}" if times[content] > 1 else ""))
    return ids


def _split(spec: Data, seen: Survey, ids: Sequence[str], kept: Any) -> split.Places:
    if spec.splits.time:
        return split.split_by_time(np.array([seen.times[at] for at in kept]), ids, spec.splits)
    if spec.splits.group:
        return split.split_by_group([seen.keys[at] for at in kept], spec.splits)
    strata = [seen.keys[at] for at in kept] if spec.splits.stratify else None
    return split.split_by_share(ids, strata, spec.splits)


def _leakage(source: Source, seen: Survey, places: split.Places, leaked: Any) -> str:
    at = int(np.argmax(leaked))
    twin = next(
        other
        for other, digest in enumerate(seen.features)
        if digest == seen.features[at] and places[other] > places[at]
    )
    return (
        f"{source.where(seen.rows[at])} in {split.NAMES[places[at]]} has the same features as "
        f"{source.where(seen.rows[twin])} in {split.NAMES[places[twin]]} ({int(leaked.sum())} such examples)"
    )
