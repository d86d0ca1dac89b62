"""What a recipe gets without writing it: rows to tensors, outputs to predictions, requests to rows.

Written for a whole batch; one example is a batch of one, so that the trainer's fast path over columns
and the way example by example give the same bits.
"""

import base64
import binascii
import io
import json
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modelyard.model.facts import Facts, RecipeError, RequestError

Columns = Mapping[str, Any]
"""Column name → numpy array (N, …) or list of N texts."""


def batch_of(facts: Facts, columns: Columns) -> dict[str, Any]:
    """Turn columns into a batch.

    Gives: images (N, C, H, W) and arrays (N, …) in float32 under their own names, normalized; all numbers stacked
    under `features` (N, F); `label` (N,) long for classes, float32 for numbers, a list for texts; `id` as a list.

    Raises:
        RecipeError: a column is missing or holds something else than numbers.
    """
    batch: dict[str, Any] = {}
    for feature in facts.tensors:
        name = feature["name"]
        values = _numbers(columns, name)
        if feature["type"] == "image":
            values = values[:, None] if values.ndim == 3 else values.transpose(0, 3, 1, 2)
        batch[name] = torch.from_numpy(np.ascontiguousarray(_normalized(facts, name, values)))
    if facts.scalars:
        names = [feature["name"] for feature in facts.scalars]
        stacked = np.stack([_normalized(facts, name, _numbers(columns, name)) for name in names], axis=1)
        batch["features"] = torch.from_numpy(stacked)
    if not batch:
        raise RecipeError(
            "the data has no numeric or image column that becomes a tensor by itself",
            do="define example(row, train, rng) in the recipe and return tensors",
        )
    if facts.label_column in columns:
        batch["label"] = label_of(facts, columns[facts.label_column])
    if "id" in columns:
        batch["id"] = list(columns["id"])
    return batch


def label_of(facts: Facts, values: Any) -> Any:
    """Labels as the loss wants them: (N,) long for classes, (N,) float32 for numbers, a list of texts."""
    if facts.kind == "class":
        return torch.from_numpy(np.array(values, dtype=np.int64))
    if facts.kind == "number":
        return torch.from_numpy(np.array(values, dtype=np.float32))
    return list(values)


def _numbers(columns: Columns, name: str) -> np.ndarray[Any, Any]:
    if name not in columns:
        raise RecipeError(f"column {name!r} is missing; there are {', '.join(sorted(columns))}", do="add it to the row")
    try:
        return np.array(columns[name], dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"column {name!r} does not hold numbers ({error})", do="give numbers of one shape") from None


def _normalized(facts: Facts, name: str, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    known = facts.normalization.get(name)
    if not known:
        return values
    # a constant column has no spread: it becomes 0, never NaN
    return (values - np.float32(known["mean"])) / np.float32(known["std"] or 1.0)


def predictions_of(facts: Facts, outputs: Any) -> list[dict[str, Any]]:
    """One record per example: logits (N, C) → softmax; (N,) or (N, 1) → the number itself.

    Raises:
        RecipeError: outputs of another shape, for which the recipe must define `predict`.
    """
    write_own = "define predict(outputs) in the recipe and return one dict with 'prediction' per example"
    if not isinstance(outputs, Tensor):
        raise RecipeError(f"the model returns {type(outputs).__name__}, not one tensor", do=write_own)
    if facts.kind == "class":
        if outputs.ndim != 2 or (facts.classes and outputs.shape[1] != len(facts.classes)):
            shape, wanted = tuple(outputs.shape), f"(N, {len(facts.classes)})"
            raise RecipeError(f"the model returns {shape} where logits {wanted} of the classes belong", do=write_own)
        chances = torch.softmax(outputs.detach().float(), dim=1)
        scores, best = chances.max(dim=1)
        return [
            {"prediction": index, "score": score, "probabilities": probabilities}
            for index, score, probabilities in zip(best.tolist(), scores.tolist(), chances.tolist(), strict=True)
        ]
    if facts.kind == "number" and (outputs.ndim == 1 or (outputs.ndim == 2 and outputs.shape[1] == 1)):
        return [{"prediction": value} for value in outputs.detach().float().reshape(-1).tolist()]
    raise RecipeError(f"outputs {tuple(outputs.shape)} for a label of kind {facts.kind!r}", do=write_own)


def answer_of(facts: Facts, prediction: Mapping[str, Any]) -> dict[str, Any]:
    """A prediction as the client reads it: `{"label", "score"}` for classes, `{"value"}` for the rest."""
    value = prediction["prediction"]
    if facts.kind == "class" and isinstance(value, int) and value < len(facts.classes):
        answer: dict[str, Any] = {"label": facts.classes[value]}
        return answer | ({"score": prediction["score"]} if "score" in prediction else {})
    return {"value": value}


def row_of(facts: Facts, request: bytes | Mapping[str, Any]) -> dict[str, Any]:
    """Turn a live request into a row: a JSON object with the features, or the bytes of a PNG or JPEG.

    Raises:
        RequestError: it is neither, lacks a feature, or a feature has another shape; the client's fault.
    """
    if isinstance(request, (bytes, bytearray)):
        if _is_picture(bytes(request)):
            return {_one_image(facts)["name"]: _picture(_one_image(facts), bytes(request))}
        try:
            request = json.loads(request)
        except (ValueError, RecursionError):
            raise RequestError("the request is neither JSON nor a PNG or JPEG image", do="send one of these") from None
    if not isinstance(request, Mapping):
        raise RequestError(f"the request is a {type(request).__name__}", do="send a JSON object with the features")
    missing = [feature["name"] for feature in facts.features if feature["name"] not in request]
    if missing:
        wanted = ", ".join(feature["name"] for feature in facts.features)
        raise RequestError(f"the request lacks {', '.join(missing)}", do=f"send an object with {wanted}")
    return {feature["name"]: _value(feature, request[feature["name"]]) for feature in facts.features}


def _value(feature: Mapping[str, Any], value: Any) -> Any:
    name, kind = feature["name"], feature["type"]
    if kind == "text":
        if not isinstance(value, str):
            raise RequestError(f"{name} is a {type(value).__name__}", do="send text")
        return value
    if kind == "image" and isinstance(value, str):
        try:
            data = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise RequestError(
                f"{name} is text that is not base64", do="send base64 of a PNG or nested lists"
            ) from None
        return _picture(feature, data)
    try:
        number = np.array(value, dtype=np.float32)
    except (TypeError, ValueError):
        if kind in ("image", "array"):
            raise RequestError(
                f"{name} does not hold numbers of one shape", do="send nested lists of numbers"
            ) from None
        raise RequestError(f"{name} is {reprlib.repr(value)}, not a number", do="send a number") from None
    shape = tuple(feature.get("shape") or ())
    if kind in ("image", "array") and shape and number.shape != shape:
        raise RequestError(f"{name} has shape {number.shape}, the model was trained on {shape}", do="send that shape")
    if kind not in ("image", "array") and number.ndim:
        raise RequestError(f"{name} has shape {number.shape}", do="send one number")
    if not np.isfinite(number).all():
        raise RequestError(f"{name} holds NaN or Inf", do="send finite numbers")
    return number if number.ndim else float(number)


def _is_picture(data: bytes) -> bool:
    return data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"))


def _one_image(facts: Facts) -> Mapping[str, Any]:
    images = [feature for feature in facts.features if feature["type"] == "image"]
    if len(images) != 1 or len(facts.features) != 1:
        wanted: Sequence[str] = [feature["name"] for feature in facts.features]
        raise RequestError("an image alone is not enough for this model", do=f"send JSON with {', '.join(wanted)}")
    return images[0]


def _picture(feature: Mapping[str, Any], data: bytes) -> np.ndarray[Any, Any]:
    """Decode an image to uint8 (H, W) or (H, W, 3); its size is read and judged before any pixel is."""
    from PIL import Image  # noqa: PLC0415  (only where images are served)

    shape = tuple(feature.get("shape") or ())
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            if shape and (image.height, image.width) != shape[:2]:
                raise RequestError(
                    f"the image is {image.height}x{image.width} (height x width), the model wants "
                    f"{shape[0]}x{shape[1]}",
                    do="resize it",
                )
            pixels = np.asarray(image.convert("RGB" if len(shape) == 3 and shape[2] == 3 else "L"))
    except RequestError:
        raise
    except Exception as error:  # Pillow raises many kinds; all mean that this is no readable image
        raise RequestError(f"the image cannot be read ({error})", do="send a whole PNG or JPEG") from None
    return pixels[:, :, None] if len(shape) == 3 and shape[2] == 1 else pixels
