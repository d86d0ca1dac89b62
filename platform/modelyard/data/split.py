"""Which split each example belongs to. Pure.

An example's place follows from its own id and the seed, never from the order in which it was read: a
keyed hash ranks the examples, and each split takes its share of the ranks.
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from modelyard.errors import BadInput
from modelyard.spec.data import Splits

NAMES = ("train", "validation", "test")
Places = npt.NDArray[np.int8]
"""(N,): index into `NAMES` for each example."""


def check_splits(splits: Splits) -> None:
    """Refuse splits that cannot be.

    Raises:
        BadInput: a share is negative or above 1, they do not sum to 1, there is nothing to train on, or
            more than one of `stratify`, `group` and `time` is set.
    """
    shares = {name: getattr(splits, name) for name in NAMES}
    written = ", ".join(f"{name} {share:g}" for name, share in shares.items())
    if any(not 0 <= share <= 1 for share in shares.values()):
        raise BadInput(f"data.splits: a share is not between 0 and 1 ({written})", do="make each a share of the whole")
    if abs((total := sum(shares.values())) - 1) > 1e-6:
        raise BadInput(f"data.splits: the shares sum to {total:g}, not to 1 ({written})", do="make them sum to 1")
    if splits.train == 0:
        raise BadInput("data.splits: train is 0", do="leave some examples to learn from")
    ways = [f"{way}: {column}" for way in ("stratify", "group", "time") if (column := getattr(splits, way))]
    if len(ways) > 1:
        raise BadInput(f"data.splits: {' and '.join(ways)} exclude each other", do="keep one of them")


def split_by_share(ids: Sequence[str], strata: Sequence[str] | None, splits: Splits) -> Places:
    """Deal each stratum out by the shares: each split gets its share of each stratum, within one example."""
    members: dict[str, list[int]] = {}
    for at, stratum in enumerate(strata if strata is not None else [""] * len(ids)):
        members.setdefault(stratum, []).append(at)
    places = np.empty(len(ids), np.int8)
    for stratum, rows in members.items():
        rows.sort(key=lambda at: rank(splits.seed, ids[at]))
        # One offset for both cuts, drawn for each stratum: small strata would otherwise all round the same way,
        # and a split could come out empty although there are many of them. A lone stratum rounds to the nearest.
        offset = 0.5 if len(members) == 1 else _fraction(splits.seed, stratum)
        first, second = (
            min(len(rows), int(share * len(rows) + offset + 1e-9))
            for share in (splits.train, splits.train + splits.validation)
        )
        places[rows[:first]], places[rows[first:second]], places[rows[second:]] = 0, 1, 2
    return places


def split_by_group(groups: Sequence[str], splits: Splits) -> Places:
    """Give each group, whole, to the split that is furthest below its share."""
    members: dict[str, list[int]] = {}
    for at, group in enumerate(groups):
        members.setdefault(group, []).append(at)
    wanted = np.array([getattr(splits, name) for name in NAMES]) * len(groups)
    given = np.zeros(len(NAMES))
    places = np.empty(len(groups), np.int8)
    for group in sorted(members, key=lambda name: rank(splits.seed, name)):
        lacking = np.where(wanted > 0, wanted - given, -np.inf)
        place = int(np.argmax(lacking))
        places[members[group]] = place
        given[place] += len(members[group])
    return places


def split_by_time(times: npt.NDArray[np.float64], ids: Sequence[str], splits: Splits) -> Places:
    """The earliest to train, the latest (N,) to test; equal times by rank."""
    order = sorted(range(len(ids)), key=lambda at: (times[at], rank(splits.seed, ids[at])))
    first = round(splits.train * len(ids))
    second = round((splits.train + splits.validation) * len(ids))
    places = np.empty(len(ids), np.int8)
    places[order[:first]], places[order[first:second]], places[order[second:]] = 0, 1, 2
    return places


def check_filled(places: Places, splits: Splits) -> None:
    """Refuse a split that was asked for and came out empty.

    Raises:
        BadInput: names it and what it was dealt from.
    """
    for at, name in enumerate(NAMES):
        share = getattr(splits, name)
        if share > 0 and not (places == at).any():
            raise BadInput(
                f"data.splits: {name} came out empty ({share:g} of {len(places)} examples)",
                do="give it a larger share, or more examples or groups",
            )


def leaks(features: Sequence[bytes], places: Places) -> npt.NDArray[np.bool_]:
    """(N,): examples whose equal, by features, is also in a later split. Without them no split knows another's."""
    latest: dict[bytes, int] = {}
    for digest, place in zip(features, places, strict=True):
        latest[digest] = max(latest.get(digest, 0), int(place))
    return np.fromiter((latest[d] > p for d, p in zip(features, places, strict=True)), bool, len(features))


def counts(places: Places) -> Mapping[str, int]:
    """Examples in each split."""
    return {name: int((places == at).sum()) for at, name in enumerate(NAMES)}


def rank(seed: int, name: str) -> bytes:
    """What examples and groups are ordered by: a hash that nobody chose."""
    return hashlib.blake2b(name.encode(), digest_size=16, key=str(seed).encode()[:64]).digest()


def _fraction(seed: int, name: str) -> float:
    """In [0, 1), from the seed and a stratum's name."""
    return int.from_bytes(rank(seed, name)[:6], "little") / 2**48
