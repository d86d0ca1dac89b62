"""From rows or live requests to predictions, whatever form the model has.

The same code answers in evaluation, in the measurement of variants, behind TorchServe and in `mlflow.pyfunc`, so
that what was judged is what serves.
"""

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch

from modelyard.model.facts import Facts, RecipeError, RequestError
from modelyard.model.folder import (
    ChangedError,
    Description,
    FolderError,
    Kind,
    digest_of,
    unpack_code,
    verify,
    write_model_folder,
)
from modelyard.model.recipe import Loaded, recipe_in

__all__ = [
    "ChangedError",
    "Description",
    "FolderError",
    "Kind",
    "Predictor",
    "RequestError",
    "digest_of",
    "verify",
    "write_model_folder",
]

Row = Mapping[str, Any]
Forward = Callable[[Mapping[str, Any]], Any]
"""Batch → outputs of the model."""


class Answered(NamedTuple):
    """What came of one live request."""

    answer: Any
    """What JSON can carry, or the exception that stands in its way."""
    label: str | None = None
    """The class that was predicted, whatever `postprocess` makes of it; None: no class, or no answer."""


class Predictor:
    """A loaded model with its recipe. Close it, or use it in a `with`: its code leaves the process then."""

    def __init__(self, description: Description, recipe: Loaded, forward: Forward, opened: ExitStack) -> None:
        self.description = description
        self.recipe = recipe
        self._forward = forward
        self._opened = opened

    @classmethod
    def load(cls, folder: Path, *, work: Path, expected: str | None = None) -> Self:
        """Verify a model folder and load it.

        Args:
            folder: the model folder.
            work: where the code is unpacked, by digest; kept and used again.
            expected: the folder's digest, where the caller knows it.

        Raises:
            ChangedError: bytes differ from their digest; nothing was opened.
            FolderError: it is no model folder, or its file does not fit the recipe.
            RecipeError: the recipe does not import or cannot be made.
        """
        description = verify(folder, expected)
        with ExitStack() as opened:
            code = work / "code"
            if description.code:
                code = unpack_code(folder / description.code, description.files[description.code], code)
            facts = Facts.from_json(description.facts)
            use, arguments = description.recipe["use"], description.recipe.get("with", {})
            recipe = opened.enter_context(recipe_in(code, use, arguments, facts))
            opened.enter_context(_threads(description.threads))
            forward = _OPEN[description.kind](folder / description.file, description, recipe)
            return cls(description, recipe, forward, opened.pop_all())

    def close(self) -> None:
        """Let go of the recipe's code."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def batch(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Rows as a batch: tensors (N, …) by column."""
        names = rows[0].keys()
        if not self.recipe.defines("example") and all(row.keys() == names for row in rows):
            return self.recipe.batch({name: [row[name] for row in rows] for name in names})
        rng = np.random.default_rng(0)  # nothing is random where train is False
        return self.recipe.collate([self.recipe.example(row, train=False, rng=rng) for row in rows])

    def forward(self, batch: Mapping[str, Any]) -> Any:
        """Outputs of the model for a batch, without gradients.

        Raises:
            RecipeError: the batch lacks an input.
        """
        missing = [name for name in self.description.inputs if name not in batch]
        if missing:
            has = ", ".join(sorted(batch))
            raise RecipeError(f"the model wants {', '.join(missing)}; a batch has {has}", do="give them in example()")
        with torch.inference_mode():
            return self._forward(batch)

    def outputs(self, rows: Sequence[Row]) -> Any:
        """Outputs of the model for rows, such as logits (N, C)."""
        return self.forward(self.batch(rows))

    def predict(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """One prediction for each row: `prediction`, and for classes `score` and `probabilities`.

        Raises:
            RecipeError: the recipe gave another number of them.
        """
        if not rows:
            return []
        with self.recipe.in_sight():
            predictions = self.recipe.predict(self.outputs(rows))
        if len(predictions) != len(rows):
            raise RecipeError(
                f"{self.recipe.where}.predict gave {len(predictions)} predictions for {len(rows)} examples",
                do="return one dict per example",
            )
        return predictions

    def answer(self, request: bytes | Row) -> Any:
        """Answer one live request with what JSON can carry.

        Raises:
            RequestError: the request does not fit the model: the client's fault.
            Exception: anything else is ours or the recipe's.
        """
        answer = self.answers([request])[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def answers(self, requests: Sequence[bytes | Row]) -> list[Any]:
        """Answer a batch of live requests: each its own answer, or the exception that stands in its way.

        One bad request never fails the others.
        """
        return [each.answer for each in self.answered(requests)]

    def answered(self, requests: Sequence[bytes | Row]) -> list[Answered]:
        """As `answers`, each with the class that was predicted."""
        with self.recipe.in_sight():
            return self._answered(requests)

    def _answered(self, requests: Sequence[bytes | Row]) -> list[Answered]:
        answers = [Answered(_attempt(self.recipe.preprocess, request)) for request in requests]
        good = [index for index, each in enumerate(answers) if not isinstance(each.answer, Exception)]
        rows = [answers[index].answer for index in good]
        predicted = _attempt(self.predict, rows)
        if isinstance(predicted, Exception):  # one row may be to blame: ask each alone
            predicted = [_first(_attempt(self.predict, [row])) for row in rows] if len(rows) > 1 else [predicted]
        for index, prediction in zip(good, predicted, strict=True):
            answers[index] = Answered(prediction)
            if not isinstance(prediction, Exception):
                label = self.recipe.facts.class_named(prediction["prediction"])
                answers[index] = Answered(_attempt(self._postprocess, prediction), label)
        return answers

    def _postprocess(self, prediction: Row) -> Any:
        answer = self.recipe.postprocess(prediction)
        json.dumps(answer, allow_nan=False)
        return answer


def _attempt(function: Callable[[Any], Any], argument: Any) -> Any:
    try:
        return function(argument)
    except Exception as error:
        return error


def _first(answers: Any) -> Any:
    return answers if isinstance(answers, Exception) else answers[0]


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    if count != before:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count != before:
            torch.set_num_threads(before)


def _eager(path: Path, description: Description, recipe: Loaded) -> Forward:
    from safetensors.torch import load_model  # noqa: PLC0415  (only this kind needs it)

    model = recipe.model()
    try:
        load_model(model, path, strict=True)
    except Exception as error:  # its own kinds and RuntimeError: other names, other shapes, a broken header
        raise FolderError(
            f"{path} does not fit the model of {recipe.where}: {error}", do="train again with this recipe"
        ) from None
    model.eval()
    return _positional(model, description)


def _torchscript(path: Path, description: Description, _recipe: Loaded) -> Forward:
    return _positional(torch.jit.load(path, map_location="cpu").eval(), description)  # type: ignore[no-untyped-call]


def _exported(path: Path, description: Description, _recipe: Loaded) -> Forward:
    """A `.pt2`: compiled by AOTInductor, or an exported program."""
    with zipfile.ZipFile(path) as archive:
        compiled = any("/aotinductor/" in name for name in archive.namelist())
    if compiled:
        return _positional(torch._inductor.aoti_load_package(str(path)), description)
    return _positional(torch.export.load(path).module(), description)


def _onnx(path: Path, description: Description, _recipe: Loaded) -> Forward:
    import onnxruntime  # noqa: PLC0415  (only this kind needs it)

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = description.threads
    options.inter_op_num_threads = 1
    # beside a server, threads that spin while they wait take the cores from those that work
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]

    def forward(batch: Mapping[str, Any]) -> Any:
        values = [batch[column].numpy() for column in description.inputs]
        results = [torch.from_numpy(value) for value in session.run(None, dict(zip(names, values, strict=True)))]
        return results[0] if len(results) == 1 else tuple(results)

    return forward


def _positional(model: Callable[..., Any], description: Description) -> Forward:
    names = description.inputs

    def forward(batch: Mapping[str, Any]) -> Any:
        return model(*(batch[name] for name in names))

    return forward


_OPEN: Mapping[str, Callable[[Path, Description, Loaded], Forward]] = {
    "eager": _eager,
    "torchscript": _torchscript,
    "onnx": _onnx,
    "exported": _exported,
}
