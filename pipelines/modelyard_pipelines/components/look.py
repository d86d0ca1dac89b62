"""The first step: what there is to work on now."""

from typing import Any, NamedTuple

from kfp import dsl


def look(
    model: str,
    code: str,
    store: str,
    promote: str,
    alias: str,
    data: dict[str, Any],
    train: dict[str, Any],
    metrics: dict[str, Any],
    gates: list[Any],
    compress: dict[str, Any],
    runtime: dict[str, Any],
    data_digest: str,
    modelyard: str,
    overview: dsl.Output[dsl.Markdown],
) -> NamedTuple("Seen", [("source", str), ("news", str)]):
    """Digest the data as they are now, and say whether a version was made of all this already."""
    try:
        from modelyard_pipelines.looking import looked
    except ImportError as missing:
        message = f"this image has no modelyard[pipelines] ({missing}): set pipeline.image to one that has, and compile"
        raise SystemExit(message) from None
    return looked(
        sections={
            "model": model,
            "promote": promote,
            "alias": alias,
            "data": data,
            "train": train,
            "metrics": metrics,
            "gates": gates,
            "compress": compress,
            "runtime": runtime,
        },
        code=code,
        store=store,
        data_digest=data_digest,
        compiled=modelyard,
        overview=overview,
    )
