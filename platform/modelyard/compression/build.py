"""From the uncompressed model folder to the model folder of one variant."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_model
from torch import Tensor

from modelyard.compression.report import REFERENCE
from modelyard.compression.variants import VARIANTS, Source
from modelyard.data.shards import SplitReader, plain
from modelyard.errors import BadInput
from modelyard.model.folder import FILES
from modelyard.model.predictor import Predictor, write_model_folder

CALIBRATION_EXAMPLES = 256
"""Ranges of activations settle after a few hundred examples; the time to read them grows."""
CALIBRATION_BATCH = 32


def build(name: str, *, model: Path, data: Path, threads: int, work: Path, out: Path) -> str:
    """Build a variant.

    Args:
        name: key of `VARIANTS`, or `fp32` for the uncompressed model at `threads`.
        model: model folder of the uncompressed model, kind eager.
        data: prepared folder; its train split calibrates.
        threads: threads within one operation of the variant.
        work: where code is unpacked.
        out: the model folder to write.

    Returns:
        The digest of `out`.

    Raises:
        Exception: whatever the family's tools raise when they cannot; the caller records the reason.
    """
    with Predictor.load(model, work=work) as predictor:
        described = predictor.description
        weights = model / described.file
        program, kind = weights, described.kind
        if name != REFERENCE:
            variant = VARIANTS[name]
            module = predictor.recipe.model()
            load_model(module, weights)
            source = Source(
                module=module.eval(), inputs=tuple(described.inputs), calibration=_calibration(predictor, data)
            )
            kind = variant.kind
            program = out.with_name(f".{out.name}.{FILES[kind]}")
            variant.build(source, program)
        try:
            return write_model_folder(
                out,
                kind=kind,
                model=program,
                recipe=described.recipe,
                facts=described.facts,
                inputs=described.inputs,
                code=model / described.code if described.code else None,
                variant=name,
                threads=threads,
                sample=described.sample,
            )
        finally:
            if program != weights:
                program.unlink(missing_ok=True)


def calibration_places(examples: int, wanted: int = CALIBRATION_EXAMPLES) -> list[int]:
    """Places of the split to calibrate on, spread evenly, since a split may be sorted.

    >>> calibration_places(10, 4)
    [0, 2, 5, 7]
    """
    return [at * examples // min(wanted, examples) for at in range(min(wanted, examples))]


def _calibration(predictor: Predictor, data: Path) -> tuple[Mapping[str, Tensor], ...]:
    reader = SplitReader(data, "train")
    places = calibration_places(len(reader))
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
