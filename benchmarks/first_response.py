"""Alias observed → first answer of the new version through the router, beside a bare TorchServe started by hand.

    .venv/bin/python benchmarks/first_response.py [--rounds 3]

A real yard (MLflow, Envoy, the loop) with a stable version that idles. Each round starts one more version's archive by
hand and asks until it answers; then it registers that version, moves the alias, and asks the router until that version
answers. Goal: a ratio of the medians of at most 1.2. The time until the alias is observed stands apart.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for tests.fakes

from serving_start import ask, bare
from tests.fakes.small_model import NAME, model_folder, prepared_data, request_of

from modelyard.packaging.package import Package, package
from modelyard.processes import wait_until
from modelyard.registry.mlflow import MLflowRegistry
from modelyard.registry.port import Candidate
from modelyard.rollout.laptop import yard
from modelyard.rollout.laptop.records import FileRecords
from modelyard.spec.deployment import Canary, DeploymentSpec, ModelDeployment, ModelRef, Strategy
from modelyard.spec.metadata import Metadata
from modelyard.spec.rollout import Phase


def one_more(into: Path, number: int) -> Package:
    """The same model under another variant name: another digest."""
    data = prepared_data(into / "data")
    model = model_folder(into, "Thirds", variant=f"round-{number}")
    return package(model, name=NAME, data=data, work=into / "work", out=into / "package")


def wait_for(router: str, version: str) -> float:
    """When the version answered first."""
    wait_until(lambda: answered_by(router) == version, deadline_s=120, what=f"an answer of {version}")
    return time.time()


def answered_by(router: str) -> str | None:
    """The version that answers now."""
    answer = httpx.post(f"{router}/v1/models/{NAME}:predict", content=request_of(0), timeout=20)
    return answer.headers.get("x-modelyard-version") if answer.status_code == 200 else None


def observed_at(records: FileRecords, version: str) -> float:
    """When the loop saw the alias name a version."""
    attempt = next(r for r in records.rollouts(f"default/{NAME}") if r.spec.version == version)
    return next(float(event["at"]) for event in attempt.status.timeline if event["event"] == "AliasObserved")


def settled(records: FileRecords, version: str) -> bool:
    """Whether this version is stable, and the one before it is gone."""
    attempt = next(r for r in records.rollouts(f"default/{NAME}") if r.spec.version == version)
    return attempt.status.phase is Phase.SUCCESSFUL


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    ours_s, bare_s, seen_s = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "yard"
        records = FileRecords(home / "records")
        up = yard.up(home)
        try:
            registry = MLflowRegistry(up.mlflow)
            at_once = Strategy(canary=Canary(steps=()))
            spec = DeploymentSpec(model=ModelRef(name=NAME, alias="champion"), strategy=at_once)
            records.write(ModelDeployment(metadata=Metadata(name=NAME), spec=spec))
            for number in range(rounds + 1):  # the first one is stable before the others, and is not counted
                packed = one_more(Path(folder) / f"v{number}", number)
                began = time.perf_counter()
                child, port = bare(packed, Path(folder) / f"bare{number}")
                wait_until(lambda port=port: ask(port), deadline_s=120, what="an answer", child=child)
                bare_s.append(time.perf_counter() - began)
                child.stop(5)
                paths = {"archive": packed.archive, "folder": packed.folder, "manifest": packed.manifest}
                candidate = Candidate(model=NAME, digest=packed.digest, **paths)
                version = registry.register(candidate).version
                before = str(number) if number else None
                moved = time.time()
                registry.move_alias(NAME, "champion", version, expected=before)
                answered, observed = wait_for(up.router, version), observed_at(records, version)
                ours_s.append(answered - observed)
                seen_s.append(observed - moved)
                wait_until(lambda v=version: settled(records, v), deadline_s=60, what="the end of the rollout")
        finally:
            yard.down(home)
    ours_s, bare_s, seen_s = ours_s[1:], bare_s[1:], seen_s[1:]
    ours, by_hand = statistics.median(ours_s), statistics.median(bare_s)
    numbers = {
        "ours_s": ours,
        "bare_s": by_hand,
        "ratio": ours / by_hand,
        "until_observed_s": statistics.median(seen_s),
    }
    rounded = {name: round(value, 2) for name, value in numbers.items()}
    each = {"ours": ours_s, "bare": bare_s, "until_observed": seen_s}
    print(json.dumps(rounded | {name: [round(value, 2) for value in values] for name, values in each.items()}))


if __name__ == "__main__":
    main()
