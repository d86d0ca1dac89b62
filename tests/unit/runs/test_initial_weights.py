"""Fine-tuning from a registered version: its weights, by number or alias, also where a compressed variant serves."""

from pathlib import Path

import pytest
from tests.fakes.registry import FakeRegistry
from tests.fakes.small_model import NAME, model_folder, prepared_data

from modelyard.errors import BadInput
from modelyard.packaging.package import Elsewhere, package
from modelyard.registry.port import Candidate
from modelyard.runs.champion import registered_weights
from modelyard.storage.atomic import digest_file


@pytest.fixture
def registry(tmp_path: Path) -> FakeRegistry:
    """Version 1 serves as it was trained, version 2 a variant that was made of it."""
    made = FakeRegistry()
    data = prepared_data(tmp_path / "data")
    trained = model_folder(tmp_path / "trained", variant="fp32")
    for variant, elsewhere in (("fp32", None), ("int8", Elsewhere(node_types=("cpu",), fallback=str(trained)))):
        chosen = model_folder(tmp_path / variant, variant=variant)
        packed = package(
            chosen, name=NAME, data=data, work=tmp_path / "work", out=tmp_path / "packed" / variant, elsewhere=elsewhere
        )
        candidate = Candidate(
            model=NAME, archive=packed.archive, digest=packed.digest, folder=str(chosen), manifest=packed.manifest
        )
        version = made.register(candidate)
    made.move_alias(NAME, "champion", version.version, expected=None)
    return made


@pytest.mark.parametrize("named", ["/1", "/2", "@champion"], ids=["as trained", "compressed", "what the alias names"])
def test_any_version_gives_the_weights_that_it_was_trained_to(
    named: str, registry: FakeRegistry, tmp_path: Path
) -> None:
    weights = registered_weights(registry, f"models:/{NAME}{named}", into=tmp_path / "into")
    trained = tmp_path / "trained" / "model" / "model.safetensors"
    assert weights.digest == digest_file(Path(weights.path)) == digest_file(trained)


@pytest.mark.parametrize(
    ("named", "told"),
    [
        (f"models:/{NAME}", "names no version. Write models:/NAME/3"),
        (f"models:/{NAME}/9", "there is no such version"),
        (f"models:/{NAME}@challenger", "alias challenger"),
        ("models:/other/1", "there is no such version"),
    ],
    ids=["no version", "another number", "another alias", "another model"],
)
def test_a_version_that_is_not_there_is_said(named: str, told: str, registry: FakeRegistry, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=told):
        registered_weights(registry, named, into=tmp_path / "into")
