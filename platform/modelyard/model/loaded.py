"""A recipe that was opened: every method with its default, each result checked where it is made.

A mistake in the user's file is answered with file, class, method and line, never with a trace through our code.
"""

import inspect
import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from modelyard.model import defaults
from modelyard.model.facts import Facts, RecipeError, RequestError
from modelyard.model.scope import Scope

Batch = Mapping[str, Any]
Example = Mapping[str, Any]
Metric = Callable[[list[dict[str, Any]], list[Any]], float]


class Loaded:
    """A recipe with its defaults. `where` is `file.py:Class`, for messages."""

    def __init__(self, recipe: Any, facts: Facts, *, where: str) -> None:
        self.recipe = recipe
        self.facts = facts
        self.where = where
        self.scope: Scope | None = None
        """Where its code is imported from, when it shares the process with others."""
        self._inputs: WeakKeyDictionary[nn.Module, dict[tuple[str, ...], list[str]]] = WeakKeyDictionary()

    def in_sight(self) -> AbstractContextManager[None]:
        """While inside, what the recipe's code imports is its own."""
        return self.scope.in_sight() if self.scope else nullcontext()

    def defines(self, method: str) -> bool:
        """Whether the recipe has this optional method itself."""
        return callable(getattr(self.recipe, method, None))

    # training

    def model(self) -> nn.Module:
        """A new model with fresh weights."""
        model: nn.Module = self._checked("model", self._user("model"), nn.Module, "return an nn.Module")
        return model

    def loss(self, outputs: Any, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        """The loss of a batch, one number; smoothing is handed on only where it is asked for.

        Raises:
            RecipeError: it is no scalar tensor, or `label_smoothing` is asked for and the recipe's loss takes none.
        """
        if label_smoothing:
            if not self.takes("loss", "label_smoothing"):
                raise RecipeError(
                    f"{self.where}.loss takes no label_smoothing, so train.labelSmoothing would do nothing",
                    do="give loss the parameter label_smoothing=0.0 and use it, or leave labelSmoothing out",
                )
            value = self._user("loss", outputs, batch, label_smoothing=label_smoothing)
        else:
            value = self._user("loss", outputs, batch)
        loss: Tensor = self._checked(
            "loss", value, Tensor, "return one number as a tensor, such as the mean over the batch"
        )
        if loss.numel() != 1:
            raise RecipeError(
                f"{self.where}.loss returned a tensor of shape {tuple(loss.shape)}",
                do="return one number, such as the mean over the batch",
            )
        return loss.reshape(())

    def takes(self, method: str, parameter: str) -> bool:
        """Whether a method of the recipe has this parameter."""
        return parameter in inspect.signature(getattr(self.recipe, method)).parameters

    def dataset(self, split: str) -> Any | None:
        """The recipe's own map-style data set for a split, or None: then prepared shards are read."""
        if not self.defines("dataset"):
            return None
        dataset = self._user("dataset", split)
        if dataset is not None and not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise RecipeError(
                f"{self.where}.dataset returned {type(dataset).__name__} without length and index",
                do="return a torch.utils.data.Dataset with __len__ and __getitem__, or None",
            )
        return dataset

    def example(self, row: Mapping[str, Any], *, train: bool, rng: np.random.Generator) -> dict[str, Any]:
        """One row as tensors; `rng` is the only randomness that an augmentation may use."""
        if not self.defines("example"):
            columns = {name: [value] for name, value in row.items()}
            return {name: values[0] for name, values in defaults.batch_of(self.facts, columns).items()}
        result = self._user("example", row, train=train, rng=rng)
        example = dict(self._checked("example", result, Mapping, "return a dict of tensors"))
        example = {
            name: torch.from_numpy(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value
            for name, value in example.items()
        }
        if "label" not in example and self.facts.label_column in row:
            example["label"] = defaults.label_of(self.facts, [row[self.facts.label_column]])[0]
        if "id" in row:
            example["id"] = row["id"]
        return example

    def batch(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """Columns (N, …) at once as a batch: the fast path, only where the recipe defines no `example`."""
        return defaults.batch_of(self.facts, columns)

    def collate(self, examples: Sequence[Example]) -> dict[str, Any]:
        """Stack examples into a batch: tensors (N, …); everything else as lists.

        Raises:
            RecipeError: examples have different columns or shapes; the message names two of them.
        """
        first = examples[0]
        batch: dict[str, Any] = {}
        for name in first:
            if any(name not in example for example in examples):
                raise RecipeError(f"{self.where}.example gives {name!r} for some rows only", do="give it for all")
            values = [example[name] for example in examples]
            if isinstance(first[name], Tensor):
                batch[name] = self._stack(name, values, examples)
            elif isinstance(first[name], (int, float, np.number)) and name != "id":
                batch[name] = torch.tensor(values)
            else:
                batch[name] = values
        return batch

    def _stack(self, name: str, values: list[Tensor], examples: Sequence[Example]) -> Tensor:
        for value, example in zip(values, examples, strict=True):
            if value.shape != values[0].shape:
                raise RecipeError(
                    f"{self.where}.example gives {name!r} as {tuple(values[0].shape)} for example "
                    f"{examples[0].get('id', 0)} and as {tuple(value.shape)} for {example.get('id', '?')}",
                    do="pad or crop to one shape",
                )
        return torch.stack(values)

    def optimizer(self, params: list[nn.Parameter]) -> torch.optim.Optimizer | None:
        """The recipe's own optimizer, or None: then `train.optimizer` decides."""
        if not self.defines("optimizer"):
            return None
        value = self._user("optimizer", params)
        made: torch.optim.Optimizer = self._checked("optimizer", value, torch.optim.Optimizer, "return an optimizer")
        return made

    def parallelize(self, model: nn.Module, mesh: Any) -> nn.Module | None:
        """The recipe's own way to spread the model over a device mesh, or None: then DDP."""
        if not self.defines("parallelize"):
            return None
        value = self._user("parallelize", model, mesh)
        spread: nn.Module = self._checked("parallelize", value, nn.Module, "return the model")
        return spread

    # calling a model

    def inputs(self, model: nn.Module, batch: Batch | None = None) -> list[str]:
        """Columns of a batch that `forward` takes, in its order.

        A lone parameter of any name takes the data's lone column, so that an `nn.Sequential` works as it is.

        Raises:
            RecipeError: `forward` has no named parameters.
        """
        inner = model.module if isinstance(model, DistributedDataParallel) else model
        columns = tuple(batch or self.facts.columns)
        found = self._inputs.setdefault(inner, {})
        if columns not in found:  # asked before each step of a training
            found[columns] = self._inputs_among(inner, columns)
        return found[columns]

    def _inputs_among(self, inner: nn.Module, columns: tuple[str, ...]) -> list[str]:
        signature = inspect.signature(inner.forward)
        kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        named = [parameter for parameter in signature.parameters.values() if parameter.kind not in kinds]
        if not named:
            raise RecipeError(
                f"forward of {type(inner).__name__} ({self.where}) names no parameters",
                do="name them as the columns of the batch, such as forward(self, image)",
            )
        known = [name for name in columns if name not in ("label", "id")]
        wanted = [p.name for p in named if p.default is p.empty or p.name in known]
        if len(wanted) == 1 and wanted[0] not in known and len(known) == 1:
            return known
        return wanted

    def call(self, model: nn.Module, batch: Batch) -> Any:
        """Call the model with the columns of the batch that its `forward` names.

        Raises:
            RecipeError: the batch lacks one of them; the message lists what it has.
        """
        names = self.inputs(model, batch)
        missing = [name for name in names if name not in batch]
        if missing:
            has = ", ".join(name for name in batch if name not in ("label", "id"))
            raise RecipeError(
                f"forward of the model of {self.where} wants {', '.join(missing)}; a batch has {has}",
                do="name forward's parameters as columns of the batch, or give the column in example()",
            )
        return model(*(batch[name] for name in names))

    # judging and serving

    def predict(self, outputs: Any) -> list[dict[str, Any]]:
        """One record per example, with `prediction`; for classes also `score` and `probabilities`."""
        if not self.defines("predict"):
            return defaults.predictions_of(self.facts, outputs)
        records = self._checked("predict", self._user("predict", outputs), Sequence, "return one dict per example")
        for record in records:
            if not isinstance(record, Mapping) or "prediction" not in record:
                raise RecipeError(
                    f"{self.where}.predict returned {record!r:.60}", do="return dicts that hold 'prediction'"
                )
        return [dict(record) for record in records]

    def metrics(self) -> dict[str, Metric]:
        """The recipe's own metrics: name → function of (predictions, labels); empty when it has none."""
        if not self.defines("metrics"):
            return {}
        metrics = dict(self._checked("metrics", self._user("metrics"), Mapping, "return a dict of functions"))
        return {name: self._metric(name, function) for name, function in metrics.items()}

    def _metric(self, name: str, function: Any) -> Metric:
        def measure(predictions: list[dict[str, Any]], labels: list[Any]) -> float:
            value = self._guard(f"metrics()[{name!r}]", function, predictions, labels)
            try:
                return float(value)
            except (TypeError, ValueError):
                raise RecipeError(
                    f"{self.where}.metrics()[{name!r}] returned {value!r:.60}", do="return one number"
                ) from None

        if not callable(function):
            raise RecipeError(
                f"{self.where}.metrics()[{name!r}] is a {type(function).__name__}",
                do="give a function of (predictions, labels)",
            )
        return measure

    def preprocess(self, request: bytes | Mapping[str, Any]) -> dict[str, Any]:
        """A live request as a row.

        Raises:
            RequestError: the request does not fit, or the recipe's own `preprocess` refused it.
        """
        if not self.defines("preprocess"):
            return defaults.row_of(self.facts, request)
        try:
            row = self._user("preprocess", request)
        except RecipeError as error:
            raise RequestError(error.what, do="send what this model takes") from error
        return dict(self._checked("preprocess", row, Mapping, "return a row: a dict of the features"))

    def postprocess(self, prediction: Mapping[str, Any]) -> Any:
        """A prediction as the JSON that a client reads.

        Raises:
            RecipeError: the recipe's own `postprocess` raised, or returned what JSON cannot carry.
        """
        if not self.defines("postprocess"):
            return defaults.answer_of(self.facts, prediction)
        answer = self._user("postprocess", dict(prediction))
        if answer is None:
            self._checked("postprocess", answer, object, "return the answer")
        try:
            json.dumps(answer, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise RecipeError(
                f"{self.where}.postprocess returned what JSON cannot carry ({error})",
                do="return dicts, lists, texts and finite numbers (tensor.item() or .tolist())",
            ) from None
        return answer

    # the user's code

    def _user(self, method: str, *args: Any, **named: Any) -> Any:
        return self._guard(method, getattr(self.recipe, method), *args, **named)

    def _guard(self, method: str, function: Callable[..., Any], *args: Any, **named: Any) -> Any:
        try:
            return function(*args, **named)
        except RecipeError:
            raise
        except Exception as error:
            raise RecipeError(
                f"{self.where}.{method} raised {type(error).__name__}: {error}{place(error)}",
                do=f"correct {method} in {self.where.split(':')[0]}",
            ) from error

    def _checked(self, method: str, value: Any, wanted: Any, do: str) -> Any:
        if value is None:
            raise RecipeError(f"{self.where}.{method} returned nothing", do=do)
        if not isinstance(value, wanted):
            raise RecipeError(f"{self.where}.{method} returned a {type(value).__name__}", do=do)
        return value


def place(error: BaseException) -> str:
    """Where an error of the user's code came from, ` (file.py, line 12)`: the deepest line that is not a library's."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "site-packages" not in frame.filename and str(Path(__file__).parent) not in frame.filename
    ]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
