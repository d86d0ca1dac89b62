"""What tests of several ports share."""

from tests.contract.registries import followed, mlflow, mlflow_world, model, world

__all__ = ["followed", "mlflow", "mlflow_world", "model", "world"]
