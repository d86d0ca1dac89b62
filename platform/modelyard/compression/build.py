"""From the uncompressed model folder to the model folder of one variant."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model
from torch import Tensor, nn

from modelyard.compression.finetune import SEED, Training, parameters
from modelyard.compression.report import REFERENCE
from modelyard.compression.search import CALIBRATE, USUAL, Candidate
from modelyard.compression.variants import VARIANTS, Source
from modelyard.data.shards import SplitReader, plain
from modelyard.errors import BadInput
from modelyard.model.facts import RecipeError
from modelyard.model.folder import FILES, Description
from modelyard.model.predictor import Predictor, write_model_folder
from modelyard.model.recipe import Loaded, recipe_in

CALIBRATION_BATCH = 32


def build(
    candidate: Candidate,
    *,
    model: Path,
    data: Path,
    threads: int,
    work: Path,
    out: Path,
    student: Mapping[str, Any] | None = None,
    training_s: float = 60.0,
) -> str:
    """Build a variant.

    Args:
        candidate: a key of `VARIANTS` with settings, or `fp32` for the uncompressed model at `threads`.
        model: model folder of the uncompressed model, kind eager.
        data: prepared folder; its train split calibrates.
        threads: threads within one operation of the variant.
        work: where code is unpacked.
        out: the model folder to write.
        student: arguments of the recipe for a smaller model, over the trained one's.
        training_s: seconds after which training stops.

    Returns:
        The digest of `out`.

    Raises:
        BadInput: the student cannot be made or is no smaller than the model.
        Exception: whatever the family's tools raise when they cannot; the caller records the reason.
    """
    with Predictor.load(model, work=work) as predictor:
        described = predictor.description
        weights = model / described.file
        program, kind, recipe = weights, described.kind, described.recipe
        module = predictor.recipe.model()
        if candidate.variant == REFERENCE and student is not None:
            _check_student(_student(predictor.recipe, described, work, student)[0](), module, student)
        if candidate.variant != REFERENCE:
            variant = VARIANTS[candidate.variant]
            load_model(module, weights)
            settings = {name: candidate.setting(name) for name in USUAL}
            source = Source(
                module=module.eval(),
                inputs=tuple(described.inputs),
                calibration=_calibration(predictor, data, int(settings[CALIBRATE])),
                settings=settings,
                training=Training(recipe=predictor.recipe, data=data, until=time.monotonic() + training_s),
            )
            if variant.student and student is not None and source.training is not None:
                make, recipe = _student(predictor.recipe, described, work, student)
                source = replace(source, training=replace(source.training, student=make))
            kind = variant.kind
            program = out.with_name(f".{out.name}.{FILES[kind]}")
            variant.build(source, program)
        try:
            return write_model_folder(
                out,
                kind=kind,
                model=program,
                recipe=recipe,
                facts=described.facts,
                inputs=described.inputs,
                code=model / described.code if described.code else None,
                variant=candidate.name,
                threads=threads,
                sample=described.sample,
            )
        finally:
            if program != weights:
                program.unlink(missing_ok=True)


def _student(
    recipe: Loaded, described: Description, work: Path, arguments: Mapping[str, Any]
) -> tuple[Callable[[], nn.Module], dict[str, Any]]:
    """How to make the student, and the recipe as its model folder names it."""
    use = described.recipe["use"]
    merged = {**described.recipe.get("with", {}), **arguments}
    digest = described.files[described.code].removeprefix("sha256:") if described.code else ""

    def make() -> nn.Module:
        torch.manual_seed(SEED)
        try:
            with recipe_in(work / "code" / digest, use, merged, recipe.facts) as other:
                return other.model()
        except RecipeError as error:
            raise BadInput(f"compress.student cannot be made: {error.what}", do="correct compress.student") from None

    return make, {"use": use, "with": merged}


def _check_student(student: nn.Module, teacher: nn.Module, arguments: Mapping[str, Any]) -> None:
    """Refuse a student that is no smaller than its teacher."""
    mine, theirs = parameters(student), parameters(teacher)
    if mine >= theirs:
        told = ", ".join(f"{name}: {value}" for name, value in arguments.items())
        raise BadInput(
            f"compress.student ({told}) has {mine:,} parameters, its teacher has {theirs:,}",
            do="name arguments that make a smaller model",
        )


def calibration_places(examples: int, wanted: int = int(USUAL[CALIBRATE])) -> list[int]:
    """Places of the split to calibrate on, spread evenly, since a split may be sorted.

    >>> calibration_places(10, 4)
    [0, 2, 5, 7]
    """
    return [at * examples // min(wanted, examples) for at in range(min(wanted, examples))]


def _calibration(predictor: Predictor, data: Path, wanted: int) -> tuple[Mapping[str, Tensor], ...]:
    reader = SplitReader(data, "train")
    places = calibration_places(len(reader), wanted)
    if not places:
        raise BadInput(f"The train split in {data} is empty: nothing to calibrate on", do="give it examples")
    batches = []
    for start in range(0, len(places), CALIBRATION_BATCH):
        rows = rows_of(reader.take(places[start : start + CALIBRATION_BATCH]))
        batch = predictor.batch(rows)
        batches.append({name: batch[name] for name in predictor.description.inputs})
    return tuple(batches)


def rows_of(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Columns (N, …) as N rows, numbers as Python's own."""
    length = len(next(iter(columns.values())))
    return [{name: plain(values[at]) for name, values in columns.items()} for at in range(length)]
