"""From what compression found to what an archive carries: all variants of one version stay one version."""

from pathlib import Path

from modelyard.compression.report import CompressionReport
from modelyard.packaging.packed import Elsewhere
from modelyard.serving.contents import VariantFacts
from modelyard.spec.codec import from_json


def elsewhere_of(chosen: Path) -> Elsewhere | None:
    """Where the chosen variant serves, and what serves on nodes that nothing was measured on: the uncompressed model.

    That one was gated as well, and no measurement of another node speaks against it.

    Args:
        chosen: the variant's folder in what the stage compress made.

    Returns:
        None where the uncompressed model itself was chosen, which serves everywhere.
    """
    path = chosen.parent / "result.json"
    report = from_json(CompressionReport, path.read_bytes(), where=str(path))
    if chosen.name == report.reference:
        return None
    return Elsewhere(
        node_types=(report.node_type,),
        fallback=str(chosen.parent / report.reference),
        variants=tuple(
            VariantFacts(
                name=one.name,
                digest=one.digest,
                node_type=report.node_type,
                bytes=one.bytes or 0,
                metrics={name: found.value for name, found in one.metrics.items() if not name.startswith("latency")},
            )
            for one in report.variants
            if one.failure is None
        ),
    )
