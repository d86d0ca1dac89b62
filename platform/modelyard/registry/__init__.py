"""Versions and aliases. MLflow is the registry; the port says what we need of it."""
