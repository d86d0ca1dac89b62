"""A training of two workers on the cluster, as a person starts it: `modelyard train --on kubernetes`.

Part of `make e2e`. The job is made real by training-operator 1.9.4, and the lines that are shown come from kubelet.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.cluster import build
from tests.e2e.cluster import jobs
from tests.e2e.cluster.site import ROOT, TEAM, Site
from tests.e2e.cluster.stage import Timed
from tests.e2e.cluster.traffic import Traffic
from tests.e2e.cluster.versions import Versions

from modelyard.storage.port import open_store

pytestmark = [pytest.mark.process, pytest.mark.timeout(2400)]
STORE = "s3://models/trainings"
NAME = "digits-wide"
"""A model of its own: no champion to be compared with."""
WIDE = {
    "metadata.name": NAME,
    "train.resources.nodes": "2", "train.resources.processesPerNode": "1", "train.resources.image": jobs.TRAINING,
    "train.resources.checkpoints.claim": "checkpoints", "train.resources.secret": "s3", "train.resources.cpu": "200m",
    "train.recipe.use": "recipe.py:Talking", "train.epochs": "6", "compress.timeBudget": "5s",
}  # fmt: skip


TALKING = """

class Talking(Mlp):
    said = 0

    def loss(self, outputs, batch):
        self.said += 1
        print("step", self.said, flush=True)
        return super().loss(outputs, batch)
"""
"""A recipe that writes a numbered line for each batch."""


def test_two_workers_train_digits_to_the_end_and_its_version_is_registered(
    site: Site, timed: Timed, versions: Versions, traffic: Traffic
) -> None:
    if not site.ours:
        pytest.skip("training-operator and a volume for two nodes are made on a node of our own only")
    began = time.monotonic()
    with timed.part("training-operator and the image for training"):
        jobs.install(site)
    folder = project(build.cache().parent / "e2e" / "digits-wide")
    try:
        with timed.part("two workers from the command to the result"):
            said = modelyard(site, folder, "train", "--on", "kubernetes", "-n", TEAM, "--store", STORE)
        with timed.part("what they trained, from there to the registry"):
            modelyard(site, folder, "run", "--until", "register", "--tracking-uri", versions.uri)
    finally:
        shutil.rmtree(folder)

    found = site.items("pytorchjobs.kubeflow.org", "-n", TEAM)
    (job,) = (each for each in found if each["metadata"]["name"].startswith(f"train-{NAME}-"))
    ended = {each["type"] for each in job["status"]["conditions"] if each["status"] == "True"}
    assert "Succeeded" in ended, job["status"]
    lines = [numbers(said, rank) for rank in (0, 1)]
    assert lines[0] == lines[1] == list(range(1, len(lines[0]) + 1)) != [], "every line of both ranks, once, in order"
    assert "6 epochs, 2 processes" in said, said
    kept = [each.key for each in open_store(STORE).list(f"trainings/{job['metadata']['name']}/")]
    assert any(each.endswith(".safetensors") for each in kept), kept
    assert versions.known(NAME) == ("1",)
    assert not traffic.failures(began), traffic.failures(began)[:5]
    timed.facts["lines of each of two ranks"] = len(lines[0])


def project(folder: Path) -> Path:
    """A project of its own: digits, by a recipe that talks."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "examples" / "digits", folder, ignore=shutil.ignore_patterns(".*"))
    recipe = folder / "recipe.py"
    recipe.write_text(recipe.read_text() + TALKING)
    return folder


def modelyard(site: Site, folder: Path, *words: str) -> str:
    """Run the command in a project; gives what it showed, and shows it."""
    changes = [word for name, value in WIDE.items() for word in ("--set", f"{name}={value}")]
    done = subprocess.run(
        [Path(sys.executable).parent / "modelyard", *words, "--project", folder, *changes],
        env={**os.environ, "KUBECONFIG": str(site.kubeconfig), "COLUMNS": "200"},
        capture_output=True, text=True, timeout=1500, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 0, f"{said[-6000:]}\n{site.snapshot()}"
    return said


def numbers(said: str, rank: int) -> list[int]:
    """Of the lines that a rank wrote, in the order in which they were shown."""
    return [int(number) for number in re.findall(rf"\[rank {rank}\] step (\d+)", said)]
