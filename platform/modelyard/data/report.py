"""The data report: what was counted, how classes and numbers are spread, and a few examples to look at."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from modelyard.data.columns import Array, Columns, Values
from modelyard.data.facts import Moments, blocks
from modelyard.data.labels import balance
from modelyard.data.prepared import PreparedData
from modelyard.data.shards import from_batch, open_shard

EXAMPLES = 12
BINS = 20


def data_report(prepared: PreparedData, folder: Path, train: Mapping[str, Moments]) -> dict[str, Any]:
    """What JSON can carry.

    `{"counts", "fingerprint", "balance": {split: {class: n}}, "columns": {name: {type, shape, mean, std, min, max,
    histogram: {edges, counts}}}, "examples": [{"id", "label", "column", "png": base64}]}`; statistics are of the
    training split, in each column's own unit.
    """
    label = prepared.facts["label"]
    classes = prepared.facts["classes"]
    columns: dict[str, dict[str, Any]] = {name: dict(known) for name, known in prepared.columns.items()}
    for name, sums in train.items():
        if sums.count:
            columns[name] |= {"mean": sums.mean, "std": sums.std, "min": sums.min, "max": sums.max}
            columns[name]["histogram"] = {
                "edges": np.linspace(sums.min, sums.max, BINS + 1).tolist(),
                "counts": np.zeros(BINS, np.int64),
            }
    spread: dict[str, dict[str, int]] = {}
    for split, shards in prepared.splits.items():
        for shard in shards:
            chunk = from_batch(open_shard(folder / shard.name))
            if label["kind"] == "class":
                _add(spread.setdefault(split, {}), balance(np.asarray(chunk[label["column"]]), classes))
            if split == "train":
                _count(columns, chunk)
    for known in columns.values():
        if "histogram" in known:
            known["histogram"]["counts"] = known["histogram"]["counts"].tolist()
    first = from_batch(open_shard(folder / prepared.splits["train"][0].name))
    return {
        "fingerprint": prepared.fingerprint,
        "counts": dict(prepared.counts),
        "balance": spread,
        "columns": columns,
        "examples": _pictures(prepared, first),
    }


def picture(image: Array) -> bytes:
    """An image (H, W[, C]) of any range as PNG bytes, spread over black to white where it is not 8-bit already."""
    from PIL import Image  # noqa: PLC0415 - only where there are images

    pixels = image if image.ndim == 2 or image.shape[-1] != 1 else image[..., 0]
    if pixels.dtype != np.uint8 or pixels.max(initial=0) <= 16:
        low, high = float(pixels.min()), float(pixels.max())
        pixels = ((pixels.astype(np.float64) - low) / ((high - low) or 1.0) * 255).round().astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, format="PNG")
    return stream.getvalue()


def _count(columns: Mapping[str, dict[str, Any]], chunk: Columns) -> None:
    for name, known in columns.items():
        if "histogram" in known:
            values: Values = chunk[name]
            for part in [values] if isinstance(values, np.ndarray) else values:
                for block in blocks(part):
                    # a number of bins, not their edges: with edges numpy sorts
                    known["histogram"]["counts"] += np.histogram(block, BINS, (known["min"], known["max"]))[0]


def _add(total: dict[str, int], more: Mapping[str, int]) -> None:
    for name, count in more.items():
        total[name] = total.get(name, 0) + count


def _pictures(prepared: PreparedData, chunk: Columns) -> list[dict[str, Any]]:
    label, classes = prepared.facts["label"], prepared.facts["classes"]
    shown = []
    for feature in prepared.facts["features"]:
        if feature["type"] == "image":
            for at in range(min(EXAMPLES, len(chunk["id"]))):
                value = chunk[label["column"]][at]
                shown.append(
                    {
                        "id": chunk["id"][at],
                        "label": classes[value] if label["kind"] == "class" else str(value),
                        "column": feature["name"],
                        "png": base64.b64encode(picture(np.asarray(chunk[feature["name"]][at]))).decode(),
                    }
                )
    return shown
