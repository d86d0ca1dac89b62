"""What `mlflow.pyfunc.load_model` calls: a model folder as a function from rows to predictions.

A copy of this file travels in each registered model under the name `modelyard_loader`, beside a copy of
`modelyard.model`; so it imports nothing of ours at its top. Where Modelyard is installed, that is used: a
second `modelyard` on the path would hide all the rest of it.
"""

import importlib.util
import sys
import tempfile
import weakref
from pathlib import Path
from typing import Any

CARRIED = "modelyard_carried"
"""Folder beside the copy of this file that holds the package `modelyard` with `modelyard.model` only."""


def _load_pyfunc(path: str) -> "Model":
    """MLflow's hook: `path` is the model folder (`model.json`)."""
    carried = Path(__file__).parent / CARRIED
    if importlib.util.find_spec("modelyard") is None and carried.is_dir():
        sys.path.append(str(carried))
    return Model(Path(path))


class Model:
    """A registered model in memory.

    Raises:
        modelyard.model.folder.ChangedError: the files differ from their digests; nothing of them was opened.
    """

    def __init__(self, folder: Path) -> None:
        from modelyard.model.predictor import Predictor  # noqa: PLC0415 - found once the path is set

        self._work = tempfile.TemporaryDirectory(prefix="modelyard-")
        self._predictor = Predictor.load(folder, work=Path(self._work.name))
        weakref.finalize(self, self._predictor.close)  # at exit, before Python takes its modules apart
        self.facts = self._predictor.recipe.facts

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> Any:  # noqa: ARG002 - MLflow's
        """Predictions for rows.

        Args:
            model_input: A DataFrame with the features as columns (an image or array as a nested list or array
                in its cell), a list of rows, one row, or a dict of columns as arrays (N, …).
            params: Not used; MLflow's.

        Returns:
            For each row `{"label", "score", "probabilities", …}` as the recipe gives it, `label` being the name
            of the class; as a DataFrame with the same index where one was given, else as a list.
        """
        rows = self._rows(model_input)
        predictions = [self._named(prediction) for prediction in self._predictor.predict(rows)]
        if hasattr(model_input, "to_dict") and hasattr(model_input, "index"):
            return type(model_input)(predictions, index=model_input.index)
        return predictions

    def _rows(self, given: Any) -> list[dict[str, Any]]:
        import numpy as np  # noqa: PLC0415

        if hasattr(given, "to_dict"):
            rows = given.to_dict(orient="records")
        elif isinstance(given, dict):
            rows = self._rows_of(given)
        else:
            rows = [dict(row) for row in given]
        nested = [feature["name"] for feature in self.facts.tensors]
        return [{name: np.asarray(v) if name in nested else v for name, v in row.items()} for row in rows]

    def _rows_of(self, given: dict[str, Any]) -> list[dict[str, Any]]:
        """One row, or columns: told apart by the axes of the first feature."""
        import numpy as np  # noqa: PLC0415

        known = next((feature for feature in self.facts.features if feature["name"] in given), None)
        axes = len(known["shape"]) if known else 0
        if known is None or np.ndim(given[known["name"]]) == axes:
            return [given]
        return [dict(zip(given, values, strict=True)) for values in zip(*given.values(), strict=True)]

    def _named(self, prediction: dict[str, Any]) -> dict[str, Any]:
        value = prediction.get("prediction")
        if self.facts.kind == "class" and isinstance(value, int) and 0 <= value < len(self.facts.classes):
            return {"label": self.facts.classes[value], **prediction}
        return prediction
