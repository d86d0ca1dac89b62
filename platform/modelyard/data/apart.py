"""Whether two sets of examples have any in common: what is learnt or calibrated on must not be what is judged on."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modelyard.data.columns import Columns, example_digests
from modelyard.data.shards import SplitReader
from modelyard.errors import BadInput


def check_apart(folder: Path, one: str, other: str) -> None:
    """Refuse splits of prepared data that share an example, by id or by equal features and label.

    `prepare` deals each example out once; shards that were made elsewhere may not have been.

    Raises:
        BadInput: names the first shared example.
    """
    first, second = SplitReader(folder, one), SplitReader(folder, other)
    names = [feature["name"] for feature in first.prepared.facts["features"]]
    names.append(first.prepared.facts["label"]["column"])
    shared = in_common(chunks(first), chunks(second), names, by_id=True)
    if shared:
        raise BadInput(
            f"the splits {one} and {other} have {len(shared)} examples in common, such as {shared[0]!r}",
            do="deal the examples out anew, so that nothing is judged on what it was made with",
        )


def in_common(one: Iterable[Columns], other: Iterable[Columns], names: Sequence[str], *, by_id: bool) -> list[str]:
    """Ids of the second set's examples that are in the first, too.

    Args:
        one: a set, chunk by chunk.
        other: another.
        names: the columns whose equal values make two examples the same.
        by_id: whether equal ids do, too; numbers of lines in two files do not.
    """
    ids: set[str] = set()
    contents: set[bytes] = set()
    dtypes: dict[str, Any] = {}
    for columns in one:
        dtypes = {name: values.dtype for name, values in columns.items() if isinstance(values, np.ndarray)}
        ids.update(columns["id"] if by_id else ())
        contents.update(example_digests(columns, names))
    found = []
    for columns in other:
        digests = example_digests(_alike(columns, dtypes), names)
        found += [
            name for name, digest in zip(columns["id"], digests, strict=True) if name in ids or digest in contents
        ]
    return found


def chunks(reader: SplitReader) -> Iterator[Columns]:
    """A split, shard by shard."""
    for shard in range(len(reader.lengths)):
        yield reader.read(shard)


def _alike(columns: Columns, dtypes: Mapping[str, Any]) -> Columns:
    """The same values in the other set's number types."""
    return {
        name: values.astype(dtypes[name], copy=False) if isinstance(values, np.ndarray) and name in dtypes else values
        for name, values in columns.items()
    }
