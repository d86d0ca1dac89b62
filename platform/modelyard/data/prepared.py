"""What preparation gives: a record of what lies in the folder beside it."""

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from modelyard.errors import BadInput
from modelyard.record import record
from modelyard.spec.codec import from_json

FILE = "prepared.json"
REPORT = "report.json"


@record
class Shard:
    """One file of examples."""

    name: str
    """File name below the folder; for shards that were taken uncopied, the key below `location`."""
    examples: int
    digest: str
    """`sha256:…` of the file."""
    bytes: int
    version: str = ""
    """The object's version where the store keeps versions."""


@record
class PreparedData:
    """Checked, split, sharded data."""

    fingerprint: str
    """`sha256:…` over the content of each split and the settings; says nothing of where it lay."""
    splits: Mapping[str, tuple[Shard, ...]]
    digests: Mapping[str, str]
    """Of each split: `sha256:…` over the ids and contents of its examples, in their order."""
    facts: Mapping[str, Any]
    """`modelyard.model.recipe.Facts` as JSON: classes, features, normalization, label."""
    counts: Mapping[str, int]
    """Examples read, dropped (by reason), filled, and in each split."""
    columns: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """All columns in the shards, also those that are no feature: `{name: {type, shape}}`."""
    location: str = ""
    """Where the shards lie, when not in this folder."""


def load_prepared(folder: Path) -> PreparedData:
    """Read what `prepare` wrote.

    Raises:
        BadInput: there is no prepared data in `folder`.
    """
    path = folder / FILE
    if not path.is_file():
        raise BadInput(f"{folder} holds no prepared data (no {FILE})", do="run the stage prepare")
    return from_json(PreparedData, path.read_bytes(), where=str(path))
