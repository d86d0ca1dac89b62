"""Cross-validation: the prepared examples dealt anew, so that each is held out once in every repeat."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from modelyard.data.columns import Columns, joined, take
from modelyard.data.facts import NORMALIZED, moments
from modelyard.data.prepared import FILE, PreparedData, load_prepared
from modelyard.data.shards import SplitReader, write_shard
from modelyard.data.split import rank
from modelyard.errors import BadInput
from modelyard.spec.codec import to_json
from modelyard.storage.atomic import digest_bytes, staging, write_text

MOST = 100_000
"""Examples; for more, one test split tells enough."""
SPLITS = ("train", "validation", "test")


def write_fold(data: Path, out: Path, *, group: str | None, folds: int, repeat: int, fold: int) -> PreparedData:
    """Prepared data in which one fold is the test split; of the rest, as large a share as before is for validation.

    Args:
        data: what `prepare` wrote; all its splits are dealt anew.
        out: folder to make.
        group: column whose equal values stay together.
        folds: how many parts.
        repeat: another number deals otherwise.
        fold: which part is held out, from 0.

    Raises:
        BadInput: too many examples, or too few for so many folds.
    """
    there = load_prepared(data)
    columns = _all(data, there)
    count = len(columns["id"])
    places = deal(
        list(columns["id"]), _strata(columns, there, group), whole=group is not None, folds=folds, seed=repeat
    )
    held = np.flatnonzero(places == fold)
    rest = np.flatnonzero(places != fold)
    validation = sum(shard.examples for shard in there.splits["validation"])
    share = validation / (validation + sum(shard.examples for shard in there.splits["train"]))
    inner = max(2, round(1 / share)) if share else 0
    ids = [columns["id"][at] for at in rest]
    strata = _strata({name: take(values, rest) for name, values in columns.items()}, there, group)
    apart = deal(ids, strata, whole=group is not None, folds=inner, seed=repeat + 1) if inner else np.ones(len(rest))
    rows = {"train": rest[apart != 0], "validation": rest[apart == 0], "test": held}
    if any(not len(rows[name]) for name in SPLITS if there.splits.get(name)):
        raise BadInput(f"{count} examples are too few for {folds} folds", do="ask for fewer folds")
    with staging(out) as folder:
        splits = {
            name: (write_shard(folder / f"{name}-00000.arrow", {key: take(v, at) for key, v in columns.items()}),)
            for name, at in rows.items()
            if len(at)
        }
        digests = {name: shards[0].digest for name, shards in splits.items()}
        facts = {**there.facts, "normalization": _normalization(columns, rows["train"], there)}
        prepared = replace(
            there,
            fingerprint=digest_bytes(to_json({"of": there.fingerprint, "splits": digests}).encode()),
            splits=splits,
            digests=digests,
            facts=facts,
            counts={name: len(at) for name, at in rows.items()},
            location="",
        )
        write_text(folder / FILE, to_json(prepared))
    return load_prepared(out)


def deal(ids: Sequence[str], strata: Sequence[str], *, whole: bool, folds: int, seed: int) -> npt.NDArray[np.intp]:
    """The fold of each example (N,), from ids and the seed alone. Pure.

    Args:
        ids: of the examples.
        strata: of each example, the class whose share every fold keeps; or its group.
        whole: whether equal strata stay together, as groups do.
        folds: how many.
        seed: another one deals otherwise.
    """
    members: dict[str, list[int]] = {}
    for at, stratum in enumerate(strata):
        members.setdefault(stratum, []).append(at)
    places = np.zeros(len(ids), dtype=np.intp)
    if whole:
        sizes = [0] * folds
        for name in sorted(members, key=lambda name: (-len(members[name]), rank(seed, name))):
            smallest = min(range(folds), key=sizes.__getitem__)
            places[members[name]] = smallest
            sizes[smallest] += len(members[name])
        return places
    dealt = 0  # goes on over the strata, so that the folds are of one size
    for name in sorted(members):
        for at in sorted(members[name], key=lambda at: rank(seed, ids[at])):
            places[at] = dealt % folds
            dealt += 1
    return places


def _all(data: Path, there: PreparedData) -> Columns:
    total = sum(shard.examples for name in SPLITS for shard in there.splits.get(name, ()))
    if total > MOST:
        raise BadInput(
            f"{total:,} examples are more than {MOST:,}, and no small data", do="gate on the test split alone"
        )
    chunks = list(_chunks(data, there))
    return {name: joined([chunk[name] for chunk in chunks]) for name in chunks[0]}


def _chunks(data: Path, there: PreparedData) -> Iterator[Columns]:
    for name in SPLITS:
        if there.splits.get(name):
            reader = SplitReader(data, name)
            for shard in range(len(reader.lengths)):
                yield reader.read(shard)


def _strata(columns: Columns, there: PreparedData, group: str | None) -> list[str]:
    label = there.facts["label"]
    if group is not None:
        return [str(value) for value in columns[group]]
    if label["kind"] == "class":
        return [str(value) for value in columns[label["column"]]]
    return [""] * len(columns["id"])


def _normalization(
    columns: Columns, rows: npt.NDArray[np.intp], there: PreparedData
) -> Mapping[str, Mapping[str, float]]:
    """Learnt from the fold's own training split: the part that is held out must not be known."""
    names = [one["name"] for one in there.facts["features"] if one["type"] in NORMALIZED]
    learnt = moments([{name: take(columns[name], rows) for name in names}], names)
    return {name: {"mean": sums.mean, "std": sums.std} for name, sums in learnt.items() if sums.count}
