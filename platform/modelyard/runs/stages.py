"""The ten stages, in order, and what each one's result depends on."""

import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from modelyard.errors import BadInput
from modelyard.spec.problem import did_you_mean


class Stage(StrEnum):
    """A stage by its verb, as `--from` and `--until` take it."""

    PREPARE = "prepare"
    TRAIN = "train"
    EVALUATE = "evaluate"
    GATE = "gate"
    COMPRESS = "compress"
    PACKAGE = "package"
    REGISTER = "register"
    PROMOTE = "promote"
    ROLLOUT = "rollout"
    SETTLE = "settle"

    @property
    def place(self) -> int:
        """Position on the way, from 0."""
        return list(Stage).index(self)


ON_THE_ROUTE = Stage.GATE
"""From here on the registry is asked (who is champion?), so MLflow has to be up."""

REVISION = {Stage.PREPARE: 1, Stage.TRAIN: 1, Stage.EVALUATE: 2, Stage.GATE: 2, Stage.COMPRESS: 1, Stage.PACKAGE: 1}
"""Raised when a stage's meaning changes, so that results of an older Modelyard are not taken for new ones."""


def stage_named(name: str) -> Stage:
    """The stage of that name.

    Raises:
        BadInput: there is none.
    """
    try:
        return Stage(name)
    except ValueError:
        guess = did_you_mean(name, tuple(map(str, Stage)))
        raise BadInput(f"there is no stage {name!r}; {guess}", do=f"name one of {', '.join(Stage)}") from None


def stage_key(stage: Stage, settings: Mapping[str, Any]) -> str:
    """The name of a stage's result: 20 hex digits over everything that it depends on.

    `settings` is JSON data that holds *digests of contents* (data, code, models) and the sections of the
    file that matter to the stage, never names or times: a changed byte gives another key, a moved file does not.
    """
    text = json.dumps([stage, REVISION.get(stage, 0), settings], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:20]
