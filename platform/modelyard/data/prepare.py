"""Stage 1, prepare: a source becomes checked splits in shards, and a fingerprint of their content.

The source is read twice, chunk by chunk. The first look gathers what decisions need of each example; then
it is decided, purely, what stays and where it goes; the second look writes. Nothing appears at the final
place before all of it is there.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modelyard.data.adopt import adopt
from modelyard.data.columns import Columns, Values, length
from modelyard.data.facts import NORMALIZED, facts_of, moments
from modelyard.data.labels import encode
from modelyard.data.plan import Plan, decide
from modelyard.data.prepared import FILE, REPORT, PreparedData, Shard, load_prepared
from modelyard.data.report import data_report
from modelyard.data.shards import SplitReader, from_batch, open_shard, write_shard
from modelyard.data.shuffle import Shuffle, places_of
from modelyard.data.sources import Source, check_data, open_source, source_digest
from modelyard.data.survey import Survey, cleaned, survey
from modelyard.errors import BadInput, StageFailed
from modelyard.spec.codec import to_data, to_json
from modelyard.spec.data import Data, Shards
from modelyard.storage.atomic import staging, write_text

__all__ = ["PreparedData", "SplitReader", "load_prepared", "prepare", "source_digest"]

Progress = Callable[[str, float], None]
SHARD_BYTES = 128 << 20
"""A shard holds fewer than `data.shardSize` examples where they would take more than this."""


def prepare(spec: Data, *, base: Path, out: Path, progress: Progress | None = None) -> PreparedData:
    """Read, check, clean, split and shard a source into the folder `out`.

    The same examples and settings give the same files and fingerprint, bit by bit, in whatever order the
    source holds them.

    Args:
        spec: The `data` section.
        base: Where relative paths start.
        out: Folder to make: `prepared.json`, shards, `report.json`.
        progress: Told what is being done, and how much of the stage is done (0 to 1).

    Raises:
        BadInput: the source or a setting cannot be used; nothing was written.
        StageFailed: no space left, or the source changed while it was read.
        Unavailable: a store cannot be reached.
    """
    tell = progress or (lambda _message, _fraction: None)
    check_data(spec)
    _check_out(out)
    if isinstance(spec.source, Shards):
        return _settled(out, adopt(spec.source.shards, spec.labels, base=base, out=out))
    with open_source(spec, base, work=out.parent) as source:
        tell(f"looking at {source.name}", 0.0)
        seen = survey(spec, source)
        plan = decide(spec, source, seen)
        tell(f"writing {sum(map(len, plan.orders.values()))} examples", 0.4)
        with staging(out) as folder:
            prepared = _write(spec, source, seen, plan, folder=folder, tell=tell)
    return _settled(out, prepared)


def _write(spec: Data, source: Source, seen: Survey, plan: Plan, *, folder: Path, tell: Progress) -> PreparedData:
    columns = _columns(seen)
    size = min(spec.shard_size, max(1, SHARD_BYTES // _example_bytes(seen)))
    shuffle = Shuffle(folder)
    owners, inner = np.full(len(plan.ids), -1, np.intp), np.zeros(len(plan.ids), np.intp)
    numbers: dict[str, range] = {}
    first = 0
    for name, order in plan.orders.items():
        shards, places = places_of(order, size, len(plan.ids), first=first)
        owners[shards >= 0], inner[shards >= 0] = shards[shards >= 0], places[shards >= 0]
        numbers[name] = range(first, first := first + -(-len(order) // size))
    for begin, chunk in _examples(spec, source, seen, plan):
        rows = slice(begin, begin + length(chunk))
        shuffle.add(owners[rows], inner[rows], chunk)
        tell("reading", 0.4 + 0.3 * (begin + length(chunk)) / len(plan.ids))
    splits = {}
    for name, span in numbers.items():
        splits[name] = tuple(
            write_shard(folder / f"{name}-{at:05}.arrow", shuffle.shard(shard)) for at, shard in enumerate(span)
        )
        tell(f"wrote {name}", 0.7 + 0.2 * len(splits) / len(numbers))
    train = moments(
        _read(folder, splits["train"]),
        [name for name in seen.roles.features if columns[name]["type"] in NORMALIZED],
    )
    digests = {name: _split_digest(plan, seen, order) for name, order in plan.orders.items()}
    label = {"column": spec.labels.column, "kind": spec.labels.kind}
    facts = facts_of(classes=plan.classes, features=seen.roles.features, columns=columns, train=train, label=label)
    prepared = PreparedData(
        fingerprint=_fingerprint(spec, digests, facts),
        splits=splits,
        digests=digests,
        facts=facts,
        counts=plan.counts,
        columns=columns,
    )
    write_text(folder / REPORT, json.dumps(data_report(prepared, folder, train), indent=2, sort_keys=True) + "\n")
    write_text(folder / FILE, to_json(prepared))
    return prepared


def _examples(spec: Data, source: Source, seen: Survey, plan: Plan) -> Iterator[tuple[int, Columns]]:
    """Surveyed examples as they are stored, chunk by chunk, each with the number of its first."""
    row = begin = 0
    dtypes = {name: np.result_type(*(dtype for dtype, _ in layouts)) for name, layouts in seen.layouts.items()}
    for chunk in source.chunks():
        columns, rows, _ = cleaned(spec, source, seen.roles, chunk, row)
        row += length(chunk)
        if rows != seen.rows[begin : begin + len(rows)]:
            break
        roles = seen.roles
        stored: Columns = {"id": list(plan.ids[begin : begin + len(rows)])}
        stored[roles.label] = encode(columns[roles.label], spec.labels, plan.classes)
        for name in (*roles.features, *roles.carried):
            stored[name] = _conformed(columns[name], dtypes.get(name))
        yield begin, stored
        begin += len(rows)
    if begin != len(seen.rows):
        raise StageFailed(f"{source.name} changed while it was read", do="run again when nobody writes to it")


def _conformed(values: Values, dtype: "np.dtype[Any] | None") -> Values:
    """One dtype in all chunks."""
    if dtype is None:
        return values
    if isinstance(values, np.ndarray):
        return values.astype(dtype, copy=False)
    return [value.astype(dtype, copy=False) for value in values]


def _columns(seen: Survey) -> dict[str, dict[str, Any]]:
    """Type and shape of each column; a length that varies is None."""
    described = {}
    for name in (*seen.roles.features, *seen.roles.carried):
        shapes = [shape for _, shape in seen.layouts.get(name, {("", ())})]
        kind = seen.types[name]
        if len({len(shape) for shape in shapes}) > 1:
            raise BadInput(f"{name} holds arrays of {sorted(shapes)}", do="give all the same number of axes")
        shape = [lengths[0] if len(set(lengths)) == 1 else None for lengths in zip(*shapes, strict=True)]
        described[name] = {"type": kind, "shape": shape}
    return described


def _example_bytes(seen: Survey) -> int:
    largest = 0
    for layouts in seen.layouts.values():
        largest += max(np.dtype(dtype).itemsize * int(np.prod(shape)) for dtype, shape in layouts)
    return max(1, largest)


def _read(folder: Path, shards: Sequence[Shard]) -> Iterator[Columns]:
    for shard in shards:
        yield from_batch(open_shard(folder / shard.name))


def _split_digest(plan: Plan, seen: Survey, order: Sequence[int]) -> str:
    digest = hashlib.sha256()
    for at in order:
        identity = plan.ids[at].encode()
        digest.update(len(identity).to_bytes(8, "little") + identity + seen.all[at])
    return f"sha256:{digest.hexdigest()}"


def _fingerprint(spec: Data, digests: Mapping[str, str], facts: Mapping[str, Any]) -> str:
    """Over content and settings, not over where the source lies."""
    settings = {name: value for name, value in to_data(spec).items() if name not in ("source", "format")}
    known = {"settings": settings, "splits": digests, "classes": facts["classes"], "features": facts["features"]}
    return "sha256:" + hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def _check_out(out: Path) -> None:
    if out.is_dir() and any(out.iterdir()) and not (out / FILE).is_file():
        raise BadInput(f"{out} is not empty and holds no prepared data", do="name a new folder")


def _settled(out: Path, prepared: PreparedData) -> PreparedData:
    """What lies at `out` now: ours, or the same made by another before us."""
    if (there := load_prepared(out)).fingerprint != prepared.fingerprint:
        raise BadInput(f"{out} holds other prepared data", do="name a new folder, or remove it")
    return there
