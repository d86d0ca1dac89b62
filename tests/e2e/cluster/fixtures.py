"""What the tests on a cluster share: one stage for the whole run, each test begins where the one before it ended."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster import build
from tests.e2e.cluster import prometheus, stage
from tests.e2e.cluster.site import STORES, Site, say
from tests.e2e.cluster.stage import Timed
from tests.e2e.cluster.traffic import Traffic
from tests.e2e.cluster.versions import Versions

SUMMARY = Path(__file__).parents[1] / "summary.json"


@pytest.fixture(scope="session")
def timed() -> Iterator[Timed]:
    began, made = time.monotonic(), Timed()
    yield made
    made.facts["whole run, seconds"] = round(time.monotonic() - began, 1)
    SUMMARY.write_text(json.dumps({"seconds": made.seconds, **made.facts}, indent=2) + "\n")
    for name, value in (*made.seconds.items(), *made.facts.items()):
        say(f"  {name:<60} {value}")


@pytest.fixture(scope="session")
def site(timed: Timed) -> Iterator[Site]:
    with stage.cluster(timed) as site:
        stage.load_images(site, timed)
        stage.clear(site)
        stage.install_gateway(site, timed)
        stage.install_stores(site, timed)
        prometheus.define(site)
        yield site


@pytest.fixture(scope="session")
def versions(site: Site, timed: Timed) -> Versions:
    made = Versions(build.cache().parent / "e2e" / "digits")
    s3, mlflow = (site.address(STORES, "--field-selector", f"metadata.name={name}") for name in ("s3", "mlflow"))
    return made.at(f"http://{mlflow}", s3=f"http://{s3}", key="e2e", secret="e2e-secret-key")


@pytest.fixture(scope="session")
def traffic(site: Site, timed: Timed) -> Iterator[Traffic]:
    made = Traffic(stage.gateway_address(site), rps=20.0)
    yield made
    made.stop()
