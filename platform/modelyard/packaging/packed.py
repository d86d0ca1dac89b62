"""What packaging gives and is given: records, apart from what makes them, which imports torch."""

from dataclasses import replace
from pathlib import Path

from modelyard.record import record
from modelyard.serving.contents import GOLDEN, MANIFEST, MODEL, VariantFacts


@record
class Package:
    """What `package` gives: paths as text, digests as `sha256:…`."""

    name: str
    archive: str
    digest: str
    """Of the archive's bytes: what a version is known by."""
    manifest: str
    """Path of the manifest."""
    golden: str
    """Path of the golden requests."""
    folder: str
    """Path of the model folder, from which pyfunc loads."""
    model_digest: str
    variant: str
    bytes: int

    def within(self, out: Path) -> "Package":
        """The same package where it lies now: a project's folder may have been moved."""
        return replace(
            self,
            archive=str(out / f"{self.name}.mar"),
            manifest=str(out / MANIFEST),
            golden=str(out / GOLDEN),
            folder=str(out / MODEL),
        )


@record
class Elsewhere:
    """What else a version is beside its chosen variant."""

    node_types: tuple[str, ...]
    """Where the chosen variant was measured, and so serves."""
    fallback: str
    """Model folder of what serves on other nodes."""
    variants: tuple[VariantFacts, ...] = ()
    """All that were measured."""
