"""Alias observed → first answer of that version through Envoy Gateway, beside a plain Deployment of the same pod.

    sudo MODELYARD_E2E_KEEP=1 make e2e-smoke
    sudo .venv/bin/python benchmarks/gateway_first_response.py [--rounds 3] [--argo]

On the node that the run on a cluster left up. Each round moves the alias to the other one of two versions, under even
traffic, and waits for its verdict; then it makes a Deployment of one replica from the same pod template and waits until
that is Ready. Goal: a ratio of the medians of at most 1.2. The time until the alias is observed stands apart.
`--argo`: then the same change of pods by Argo Rollouts 1.9 on that node (`gateway_argo.py`).
"""

import argparse
import json
import os
import statistics
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for tests

from tests.cluster import build, machine
from tests.cluster.daemons import kubeconfig
from tests.e2e.cluster import stage
from tests.e2e.cluster.site import STORES, TEAM, Site, is_ready, say
from tests.e2e.cluster.traffic import Traffic
from tests.e2e.cluster.versions import Versions

from modelyard.processes import wait_until

RPS = 50.0


def on_the_node() -> tuple[Site, Versions]:
    """The node that is up, with its registry."""
    site = Site(kubeconfig=kubeconfig(machine.home(), "admin"), ours=True)
    if not site.kubeconfig.exists():
        sys.exit("no node is up: MODELYARD_E2E_KEEP=1 make e2e-smoke leaves one")
    versions = Versions(build.cache().parent / "e2e" / "digits")
    s3, mlflow = (site.address(STORES, "--field-selector", f"metadata.name={name}") for name in ("s3", "mlflow"))
    return site, versions.at(f"http://{mlflow}", s3=f"http://{s3}", key="e2e", secret="e2e-secret-key")


def settled(site: Site) -> str:
    """The version that is live, once nothing is under way; else empty."""
    phases = {(each.get("status") or {}).get("phase") for each in site.rollouts()}
    return site.live() if phases <= {"Successful", "Failed"} else ""


def moments(attempt: dict[str, Any]) -> dict[str, float]:
    """When each event of an attempt was, seconds since the epoch."""
    events = attempt["status"]["timeline"]
    return {each["event"]: datetime.fromisoformat(each["at"]).timestamp() for each in events}


def rolled_out(site: Site, versions: Versions, version: str, traffic: Traffic) -> dict[str, float]:
    """Move the alias; gives seconds until it was observed, and from then to the first answer at the client."""
    asked, sent = time.time(), time.monotonic()
    versions.promote(version)
    wait_until(lambda: traffic.versions(sent)[version], deadline_s=240, what=f"an answer of version {version}")
    first = min(each.at + each.took_s for each in traffic.answers(sent) if each.version == version)
    attempt = site.wait(lambda: site.ended(version), f"version {version} judged", deadline_s=600)
    observed = moments(attempt)["AliasObserved"]
    return {"alias observed, s": observed - asked, "first answer, s": asked + first - sent - observed}


def plain(site: Site, template: dict[str, Any]) -> float:
    """Seconds from the creation of a Deployment of one replica of a pod template until it is Ready."""
    labels = {"app": "plain"}
    pods = {"metadata": {"labels": labels}, "spec": template["spec"]}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": pods}
    about = {"name": "plain", "namespace": TEAM}
    began = time.monotonic()
    site.apply(json.dumps({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": about, "spec": spec}))
    site.kubectl("rollout", "status", "deployment/plain", "-n", TEAM, "--timeout=240s", timeout=250)
    took = time.monotonic() - began
    site.kubectl("delete", "deployment", "plain", "-n", TEAM, "--cascade=foreground", timeout=250)
    return took


def main() -> None:
    """The program."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--argo", action="store_true", help="also by Argo Rollouts")
    given = made.parse_args()
    site, versions = on_the_node()
    site.apply(Path("digits.yaml"))
    stable = site.wait(lambda: settled(site), "a version that is live", deadline_s=600)
    site.wait(lambda: len([each for each in site.servers() if is_ready(each)]) == 2, "two servers that are ready")
    traffic = Traffic(stage.gateway_address(site), rps=RPS).start()  # not before: what nobody serves yet fails
    other = next(each for each in versions.known()[:2] if each != stable)
    rows, templates = [], []
    for number in range(given.rounds):
        site.wait(lambda: len(site.servers()) == 2, "the end of the servers before")
        row = rolled_out(site, versions, (other, stable)[number % 2], traffic)
        arm = site.items("deployment", "-n", TEAM, "-l", "modelyard.dev/deployment=digits")
        templates.append(next(each for each in arm if each["spec"]["replicas"])["spec"]["template"])
        row["plain Deployment, s"] = plain(site, templates[-1])
        rows.append({name: round(value, 2) for name, value in row.items()})
        say(f"  round {number + 1}: {rows[-1]}")
    traffic.stop()
    middle = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    result = {**middle, "ratio": round(middle["first answer, s"] / middle["plain Deployment, s"], 3), "rounds": rows,
              "failed requests": len(traffic.failures()), "load": round(os.getloadavg()[0], 1)}  # fmt: skip
    if given.argo:
        from gateway_argo import measured

        result["Argo Rollouts: template changed to first answer, s"] = measured(site, templates[:2], given.rounds)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
