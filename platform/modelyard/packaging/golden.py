"""Golden requests: a few test examples as clients would send them, with the answers that were recorded.

Answers are compared as JSON: names, texts and lengths exactly, numbers within a tolerance, since a server may sum in
another order than the process that recorded them.
"""

import base64
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from modelyard.errors import BadInput
from modelyard.model.facts import RecipeError, RequestError
from modelyard.model.predictor import Predictor
from modelyard.serving.contents import Golden, GoldenRequests, golden_body

JSON = "application/json"


def record_golden(
    predictor: Predictor, rows: Sequence[Mapping[str, Any]], *, tolerance: float = 1e-3
) -> GoldenRequests:
    """Ask the model for each row and record its answer.

    A row becomes a JSON object of its features; where the recipe's own `preprocess` refuses that and the row is one
    image, a PNG. A recipe with other requests defines `request(row)`, the inverse of its `preprocess`.

    Args:
        predictor: the model that will serve.
        rows: rows of the test split.
        tolerance: how far numbers may be away later.

    Raises:
        BadInput: the recipe refuses every form of the request, or raises while it answers.
    """
    recorded = []
    for number, row in enumerate(rows):
        refused: RequestError | None = None
        for content_type, body in _forms(predictor, row):
            golden = Golden(id=str(row.get("id", number)), content_type=content_type, body=body, answer=None)
            request = body if content_type == JSON else golden_body(golden)
            try:
                answer = predictor.answer(request)
            except RequestError as error:
                refused = refused or error
            except RecipeError as error:
                raise BadInput(f"Test example {golden.id} cannot be answered: {error.what}", do=error.do) from None
            else:
                recorded.append(Golden(id=golden.id, content_type=content_type, body=body, answer=answer))
                break
        else:
            raise BadInput(
                f"{predictor.recipe.where} refuses test example {row.get('id', number)} as a request: "
                f"{refused.what if refused else 'it has no features'}",
                do="let preprocess take a JSON object with the features, or define request(row), its inverse",
            )
    return GoldenRequests(requests=tuple(recorded), tolerance=tolerance)


def _forms(predictor: Predictor, row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Content type and body of each way to send a row."""
    own = getattr(predictor.recipe.recipe, "request", None)
    if callable(own):
        request = own(dict(row))
        if isinstance(request, bytes):
            yield "application/octet-stream", base64.b64encode(request).decode()
        else:
            yield JSON, plain(request)
        return
    names = [feature["name"] for feature in predictor.recipe.facts.features]
    features = {name: row[name] for name in names if name in row}
    if features:
        yield JSON, plain(features)
    if len(features) == 1 and predictor.recipe.facts.features[0]["type"] == "image":
        yield "image/png", base64.b64encode(_png(np.asarray(features[names[0]]))).decode()


def _png(pixels: "np.ndarray[Any, Any]") -> bytes:
    from PIL import Image  # noqa: PLC0415  (only where images are served)

    stream = io.BytesIO()
    Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8).squeeze()).save(stream, "PNG")
    return stream.getvalue()


def plain(value: Any) -> Any:
    """A value of a row as what JSON can carry."""
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def difference(recorded: Any, answered: Any, tolerance: float, where: str = "answer") -> str | None:
    """The first difference between two JSON values, with both sides; None when they are equal within tolerance.

    >>> difference({"score": 0.5}, {"score": 0.5004}, 1e-3)
    >>> difference({"score": 0.5}, {"score": 0.6}, 1e-3)
    'answer.score is 0.6, recorded was 0.5'
    """
    both_numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (recorded, answered))
    if both_numbers and math.isclose(recorded, answered, rel_tol=tolerance, abs_tol=tolerance):
        return None
    if isinstance(recorded, dict) and isinstance(answered, dict) and recorded.keys() == answered.keys():
        pairs = ((f"{where}.{name}", recorded[name], answered[name]) for name in recorded)
    elif isinstance(recorded, list) and isinstance(answered, list) and len(recorded) == len(answered):
        pairs = ((f"{where}[{i}]", r, a) for i, (r, a) in enumerate(zip(recorded, answered, strict=True)))
    else:
        same = not both_numbers and type(recorded) is type(answered) and recorded == answered
        return None if same else f"{where} is {answered!r:.80}, recorded was {recorded!r:.80}"
    return next((found for name, r, a in pairs if (found := difference(r, a, tolerance, name))), None)
