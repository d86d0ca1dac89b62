"""Examples to calibrate and train on must not be those that the gates test with."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from modelyard.data.prepared import load_prepared
from modelyard.data.shards import SplitReader
from modelyard.errors import BadInput

_BATCH = 1024


def check_overlap(data: Path) -> None:
    """Refuse data whose train split holds examples of the test split.

    The test split is read only where preparation saw such examples and was told to keep them: else it stays unseen.

    Raises:
        BadInput: there are such examples; the message has their number and one of them.
    """
    prepared = load_prepared(data)
    train, test = ({shard.digest for shard in prepared.splits.get(split, ())} for split in ("train", "test"))
    if train & test:
        raise _refusal(data, "a whole shard of the train split is in the test split too")
    if not prepared.counts.get("leakage"):
        return
    label = str(prepared.facts["label"]["column"])
    known = dict(_contents(data, "test", label))
    shared = [(name, known[digest]) for digest, name in _contents(data, "train", label) if digest in known]
    if shared:
        told = f"{len(shared)} examples of the train split are in the test split too ({shared[0][0]} is {shared[0][1]})"
        raise _refusal(data, told)


def _refusal(data: Path, told: str) -> BadInput:
    return BadInput(
        f"{told}: calibrating on them would let variants see what they are judged on ({data})",
        do="set data.checks.leakage to drop or refuse",
    )


def _contents(data: Path, split: str, label: str) -> Iterator[tuple[bytes, str]]:
    """A digest of each example's features, and its id."""
    reader = SplitReader(data, split)
    for start in range(0, len(reader), _BATCH):
        for row in reader.rows(start, start + _BATCH):
            content = hashlib.blake2b(digest_size=16)
            for name in sorted(row):
                if name not in ("id", label):
                    value = np.asarray(row[name])
                    content.update(f"{name}{value.dtype.str}{value.shape}".encode() + value.tobytes())
            yield content.digest(), str(row["id"])
