"""A server loads the variant that fits its node, and says which; a compiled one needs no compiler."""

import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.fakes.small_model import NAME, code_archive, image_of, model_folder, prepared_data, request_of, weights
from torch import nn

from modelyard.compression.variants import VARIANTS, Source
from modelyard.packaging.package import Elsewhere, Package, package
from modelyard.serving.torchserve import Server
from modelyard.spec.deployment import Runtime

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """The small model in int8, compiled by AOTInductor for nodes of the type `here`, uncompressed for others."""
    into = tmp_path_factory.mktemp("compiled")
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval()
    module.load_state_dict({name.replace("linear", "1"): value for name, value in weights().items()})
    images = torch.from_numpy(np.stack([image_of(third) for third in range(3)]))[:, None]
    source = Source(module=module, inputs=("image",), calibration=({"image": images},))
    VARIANTS["aot-int8"].build(source, into / "model.pt2")
    settings: dict[str, Any] = {"kind": "exported", "model": into / "model.pt2", "variant": "aot-int8"}
    return package(
        model_folder(into / "chosen", code=code_archive(into / "code"), **settings),
        name=NAME,
        data=prepared_data(into / "data"),
        work=into / "work",
        out=into / "package",
        elsewhere=Elsewhere(node_types=("here",), fallback=str(model_folder(into / "other"))),
    )


@pytest.fixture
def bare(packed: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """The package on a machine without any program on the path: no g++ above all."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return packed


@pytest.mark.parametrize(("node", "variant"), [("here", "aot-int8"), ("elsewhere", "fp32")])
def test_the_variant_that_fits_the_node_answers_and_is_named_without_a_compiler(
    node: str, variant: str, bare: Package, tmp_path: Path
) -> None:
    with Server.start(
        Path(bare.archive), digest=bare.digest, name=NAME, runtime=Runtime(), work=tmp_path, node=node
    ) as server:
        server.wait_ready(120)
        for third, label in enumerate(("left", "middle", "right")):
            asked = urllib.request.Request(server.url, request_of(third), {"content-type": "application/json"})
            with urllib.request.urlopen(asked, timeout=30) as answer:
                assert f'"{label}"' in answer.read().decode()
                assert answer.headers["x-modelyard-variant"] == variant
        assert all(server.ask_golden(one)[0] == 200 for one in server.contents.golden.requests)
