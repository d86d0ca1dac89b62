"""Golden sets: examples picked by people, kept out of training, on which a version must not get worse."""

from dataclasses import replace
from pathlib import Path

from modelyard.data.apart import chunks, in_common
from modelyard.data.columns import Columns, joined, length
from modelyard.data.labels import encode
from modelyard.data.plan import ids_of
from modelyard.data.prepared import FILE, PreparedData, load_prepared
from modelyard.data.shards import SplitReader, write_shard
from modelyard.data.sources import open_source, source_digest
from modelyard.data.survey import cleaned, survey
from modelyard.errors import BadInput
from modelyard.spec.codec import to_json
from modelyard.spec.data import Checks, Data, Splits
from modelyard.storage.atomic import staging, write_text

SPLIT = "golden"
MOST = 20_000
"""Examples that people may pick: what is judged example by example is looked at by people."""


def golden_data(spec: Data, name: str, like: PreparedData) -> Data:
    """How a golden set is read: as the project's data are, with their classes and features."""
    labels = replace(spec.labels, column=like.facts["label"]["column"], kind=like.facts["label"]["kind"])
    if labels.kind == "class":
        labels = replace(labels, classes=tuple(like.facts["classes"]))
    features = tuple(feature["name"] for feature in like.facts["features"])
    checks = Checks(duplicates="keep", missing=spec.checks.missing, fill=spec.checks.fill, leakage="keep")
    splits = Splits(train=1, validation=0, test=0)
    return replace(spec, source=name, format=None, labels=labels, features=features, checks=checks, splits=splits)


def prepare_golden(spec: Data, data: Path, *, base: Path, out: Path) -> PreparedData:
    """Read a golden set into the folder `out`, as its split `golden`.

    Args:
        spec: as `golden_data` gives it.
        data: the project's prepared data, from which a golden set has to be kept apart.
        base: where a relative path starts.
        out: folder to make.

    Raises:
        BadInput: the file cannot be used, a label is none of the classes, or an example was trained on.
    """
    like = load_prepared(data)
    with open_source(spec, base, work=out.parent) as source:
        seen = survey(spec, source)
        if len(seen.rows) > MOST:
            raise BadInput(
                f"{source.name} has {len(seen.rows)} examples, more than {MOST}", do="pick the ones that matter"
            )
        parts, row = [], 0
        for chunk in source.chunks():
            columns, _, _ = cleaned(spec, source, seen.roles, chunk, row)
            parts.append({name: columns[name] for name in (seen.roles.label, *seen.roles.features)})
            row += length(chunk)
        stored: Columns = {"id": ids_of(seen)}
        for name in (seen.roles.label, *seen.roles.features):
            stored[name] = joined([part[name] for part in parts])
        stored[seen.roles.label] = encode(stored[seen.roles.label], spec.labels, like.facts["classes"])
    names = [*seen.roles.features, seen.roles.label]
    shared = in_common(chunks(SplitReader(data, "train")), [stored], names, by_id=False)
    if shared:
        raise BadInput(
            f"{len(shared)} examples of {spec.source} were trained on, such as {shared[0]!r}",
            do="keep a golden set out of data.source",
        )
    digest = source_digest(spec, base=base)
    with staging(out) as folder:
        shard = write_shard(folder / f"{SPLIT}-00000.arrow", stored)
        prepared = PreparedData(
            fingerprint=digest,
            splits={SPLIT: (shard,)},
            digests={SPLIT: shard.digest},
            facts=like.facts,
            counts={"read": seen.counts["read"], SPLIT: shard.examples},
            columns=like.columns,
        )
        write_text(folder / FILE, to_json(prepared))
    return load_prepared(out)
