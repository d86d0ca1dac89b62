"""Shards that exist already: taken as they lie, by digest and object version, uncopied."""

from dataclasses import replace
from pathlib import Path

from modelyard.data.apart import check_apart
from modelyard.data.prepared import FILE, REPORT, PreparedData
from modelyard.errors import BadInput
from modelyard.spec.codec import from_json, to_json
from modelyard.spec.data import Labels
from modelyard.storage.atomic import staging, write_text
from modelyard.storage.port import open_store


def adopt(uri: str, labels: Labels, *, base: Path, out: Path) -> PreparedData:
    """Write a `prepared.json` at `out` that points to the shards below `uri`. Default labels mean whatever they have.

    Raises:
        BadInput: no prepared data there, or with another label; a shard is missing or has another size than recorded;
            an example is in the validation and in the test split.
    """
    where = uri if "://" in uri else str((base / Path(uri).expanduser()).resolve())
    store = open_store(where)
    there = {stored.key: stored for stored in store.list()}
    if FILE not in there:
        raise BadInput(f"data.source.shards: {where} holds no prepared data (no {FILE})", do="name what prepare wrote")
    given = from_json(PreparedData, store.read(FILE), where=f"{where}/{FILE}")
    if given.location:
        raise BadInput(f"data.source.shards: {where} only points to {given.location}", do="name that place")
    known = (given.facts["label"]["column"], given.facts["label"]["kind"], tuple(given.facts["classes"]))
    asked = (labels.column, labels.kind, labels.classes or known[2])
    if labels != Labels() and asked != known:
        raise BadInput(
            f"data.labels is {labels.column} ({labels.kind}), but the shards in {where} have {known[0]} ({known[1]})",
            do="leave data.labels out, or prepare the data anew",
        )
    splits = {}
    for name, shards in given.splits.items():
        for shard in shards:
            if shard.name not in there or there[shard.name].bytes != shard.bytes:
                raise BadInput(
                    f"data.source.shards: {shard.name} in {where} is missing or cut short", do="prepare it again"
                )
        splits[name] = tuple(replace(shard, version=there[shard.name].version) for shard in shards)
    prepared = replace(given, splits=splits, location=where)
    with staging(out) as folder:
        if REPORT in there:
            write_text(folder / REPORT, store.read(REPORT).decode())
        write_text(folder / FILE, to_json(prepared))
        if prepared.splits.get("validation") and prepared.splits.get("test"):
            check_apart(folder, "validation", "test")  # calibrated and chosen by the one, judged by the other
    return prepared
