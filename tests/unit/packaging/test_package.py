"""Packaging: golden requests, and what is refused before anything is written."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.small_model import NAME, model_folder, prepared_data, small_package

from modelyard.errors import BadInput, Tampered
from modelyard.model.predictor import digest_of
from modelyard.packaging.archive import unpack_model
from modelyard.packaging.golden import difference
from modelyard.packaging.package import Elsewhere, Package, load_package, package
from modelyard.serving.contents import Manifest, VariantFacts, read_contents, serving_folder
from modelyard.spec.codec import from_data, to_data


def golden_of(folder: str) -> list[dict[str, object]]:
    requests: list[dict[str, object]] = json.loads(Path(folder).read_text())["requests"]
    return requests


def test_golden_requests_are_test_examples_with_recorded_answers(tmp_path: Path) -> None:
    recorded = golden_of(small_package(tmp_path).golden)
    assert [request["id"] for request in recorded] == [f"e{number}" for number in range(8)]
    assert [request["answer"]["label"] for request in recorded[:3]] == ["left", "middle", "right"]  # type: ignore[index]
    assert set(recorded[0]["body"]) == {"image"}  # type: ignore[call-overload]


def test_a_recipe_that_takes_pictures_gets_pictures(tmp_path: Path) -> None:
    assert {request["contentType"] for request in golden_of(small_package(tmp_path, "PicturesOnly").golden)} == {
        "image/png"
    }


def test_a_recipe_with_requests_of_its_own_says_how_to_make_them(tmp_path: Path) -> None:
    recorded = golden_of(small_package(tmp_path, "OfItsOwn").golden)
    assert [request["answer"]["label"] for request in recorded[:3]] == ["left", "middle", "right"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("cls", "complaint"),
    [
        ("Refusing", "refuses test example e0 as a request: .*never content.*define request"),
        ("Unsendable", "Test example e0 cannot be answered: .*JSON cannot carry"),
        ("NoSuch", "no class 'NoSuch'"),
    ],
)
def test_a_recipe_that_cannot_answer_is_refused_and_nothing_is_written(
    tmp_path: Path, cls: str, complaint: str
) -> None:
    with pytest.raises(BadInput, match=f"(?s){complaint}"):
        small_package(tmp_path, cls)
    assert not (tmp_path / "package").exists()


def test_an_empty_test_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="test"):
        package(
            model_folder(tmp_path),
            name=NAME,
            data=prepared_data(tmp_path / "data", 0),
            work=tmp_path / "work",
            out=tmp_path / "package",
        )
    assert not (tmp_path / "package").exists()


def test_a_model_folder_whose_bytes_were_changed_is_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    (folder / "code.tar").write_bytes(b"other code")
    with pytest.raises(Tampered, match=r"code.tar has digest"):
        package(folder, name=NAME, data=tmp_path, work=tmp_path / "work", out=tmp_path / "package")


def test_packaging_twice_into_one_folder_gives_one_package(tmp_path: Path) -> None:
    settings = {"name": NAME, "data": prepared_data(tmp_path / "data"), "work": tmp_path / "w", "out": tmp_path / "p"}
    first = package(model_folder(tmp_path), **settings)  # type: ignore[arg-type]
    assert package(model_folder(tmp_path / "again"), **settings) == first  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="holds another package"):
        package(model_folder(tmp_path / "other", "Polite"), **settings)  # type: ignore[arg-type]
    assert from_data(type(first), to_data(first)) == first


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=3) | st.floats(-9, 9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_an_answer_never_differs_from_itself(value: object) -> None:
    assert difference(value, json.loads(json.dumps(value)), 0.0) is None


@given(JSON, JSON)
def test_a_difference_is_seen_from_both_sides(one: object, other: object) -> None:
    assert (difference(one, other, 0.0) is None) == (difference(other, one, 0.0) is None)


@pytest.mark.parametrize(
    ("recorded", "answered", "message"),
    [
        ({"a": 1.0}, {"a": 1.0009}, None),
        ({"a": 1.0}, {"a": 1.1}, "answer.a is 1.1, recorded was 1.0"),
        ({"a": "x"}, {"a": "y"}, "answer.a is 'y', recorded was 'x'"),
        ({"a": 1}, {"b": 1}, "answer is {'b': 1}, recorded was {'a': 1}"),
        ([1, 2], [1, 2, 3], "answer is [1, 2, 3], recorded was [1, 2]"),
        ([{"p": [0.5]}], [{"p": [0.7]}], "answer[0].p[0] is 0.7, recorded was 0.5"),
        (True, 1, "answer is 1, recorded was True"),
        (1, "1", "answer is '1', recorded was 1"),
        (None, None, None),
    ],
)
def test_a_difference_shows_both_sides(recorded: object, answered: object, message: str | None) -> None:
    assert difference(recorded, answered, 1e-3) == message


def test_a_package_whose_folder_was_moved_is_found_where_it_lies_now(tmp_path: Path) -> None:
    made = small_package(tmp_path / "here")
    (tmp_path / "here" / "package").rename(tmp_path / "there")
    moved = made.within(tmp_path / "there")
    assert moved == load_package(tmp_path / "there", name=made.name)
    assert all(Path(path).exists() for path in (moved.archive, moved.manifest, moved.golden, moved.folder))


def on_two_kinds_of_nodes(into: Path, **changes: object) -> Package:
    """A package whose variant was chosen for one type of node, with another model for all others."""
    facts = VariantFacts(name="onnx-int8", digest="sha256:1", node_type="cpu-vnni", metrics={"accuracy": 0.9})
    other = model_folder(into / "other", "Polite", variant="fp32", threads=2)
    settings = {"node_types": ("cpu-vnni",), "fallback": str(other), "variants": (facts,)} | changes
    return package(
        model_folder(into / "chosen", variant="onnx-int8"),
        name=NAME,
        data=prepared_data(into / "data"),
        work=into / "work",
        out=into / "package",
        elsewhere=Elsewhere(**settings),
    )


@pytest.mark.parametrize(
    ("node", "wanted", "told"),
    [("cpu-vnni", ("model", "onnx-int8", 1), "right"), ("cpu", ("fallback", "fp32", 2), "it would be: right")],
    ids=["where it was measured", "elsewhere"],
)
def test_each_type_of_node_gets_the_variant_that_fits_and_its_golden_requests(
    node: str, wanted: tuple[str, str, int], told: str, tmp_path: Path
) -> None:
    contents = read_contents(Path(on_two_kinds_of_nodes(tmp_path).archive), node=node)
    assert (contents.folder, contents.variant, contents.threads) == wanted
    answers = [request.answer for request in contents.golden.requests]
    assert any(told == (answer["answer"] if "answer" in answer else answer["label"]) for answer in answers)


def test_all_variants_of_a_version_stand_in_its_manifest_with_digest_metrics_and_node_type(tmp_path: Path) -> None:
    manifest = read_contents(Path(on_two_kinds_of_nodes(tmp_path).archive)).manifest
    assert manifest.variants[0].name == "onnx-int8"
    assert manifest.variants[0].metrics == {"accuracy": 0.9}
    assert manifest.fallback is not None
    assert manifest.fallback.model != manifest.model
    assert {"fallback/model.json", "fallback.json", "model/model.json"} <= set(manifest.files)


def test_the_model_that_was_compressed_comes_out_of_the_archive_too(tmp_path: Path) -> None:
    packed = on_two_kinds_of_nodes(tmp_path)
    served = unpack_model(Path(packed.archive), tmp_path / "served")
    before = unpack_model(Path(packed.archive), tmp_path / "before", uncompressed=True)
    variants = [json.loads((folder / "model.json").read_text())["variant"] for folder in (served, before)]
    assert variants == ["onnx-int8", "fp32"]
    assert (before / "model.safetensors").read_bytes() == (tmp_path / "other/model/model.safetensors").read_bytes()


def test_an_uncompressed_model_is_itself_what_it_was_made_from(tmp_path: Path) -> None:
    packed = small_package(tmp_path)
    folder = unpack_model(Path(packed.archive), tmp_path / "before", uncompressed=True)
    assert digest_of(folder) == digest_of(Path(packed.folder))


def test_a_package_that_fits_no_other_node_says_so_there(tmp_path: Path) -> None:
    manifest = replace(Manifest(name="m", model="", variant="onnx-int8"), node_types=("cpu-vnni",))
    with pytest.raises(BadInput, match="m serves on cpu-vnni, and this node is cpu"):
        serving_folder(manifest, "cpu")
