"""What tests of several ports share."""

from tests.contract.kubes import api
from tests.contract.registries import followed, mlflow, mlflow_world, model, world

__all__ = ["api", "followed", "mlflow", "mlflow_world", "model", "world"]
