"""How long our TorchServe takes to its first answer, beside a bare one started by hand with the same archive.

    .venv/bin/python benchmarks/serving_start.py [--rounds 5]

Prints the ratio of the medians (goal: at most 1.2), and what one request costs on each server and in this process.
The rounds take turns, so that a machine that gets slower or faster is fair to both.
"""

import argparse
import http.client
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for tests.fakes

from tests.fakes.small_model import NAME, request_of, small_package

from modelyard.model.predictor import Predictor
from modelyard.packaging.package import Package
from modelyard.processes import Child, free_port, spawn, wait_until
from modelyard.serving.java import java
from modelyard.serving.torchserve import Server
from modelyard.spec.deployment import Runtime


def bare(packed: Package, work: Path) -> tuple[Child, int]:
    """TorchServe as its manual says, with one worker, without tokens."""
    work.mkdir(parents=True)
    ports = [free_port() for _ in range(5)]
    (work / "config.properties").write_text(
        f"inference_address=http://127.0.0.1:{ports[0]}\nmanagement_address=http://127.0.0.1:{ports[1]}\n"
        f"metrics_address=http://127.0.0.1:{ports[2]}\ngrpc_inference_port={ports[3]}\n"
        f"grpc_management_port={ports[4]}\ndisable_token_authorization=true\ndefault_workers_per_model=1\n"
    )
    (work / "tmp").mkdir()
    command = [Path(sys.executable).parent / "torchserve", "--start", "--foreground", "--ncs"]
    command += ["--model-store", Path(packed.archive).parent, "--models", f"{NAME}.mar"]
    command += ["--ts-config", work / "config.properties"]
    environment = os.environ | {"JAVA_HOME": str(java().resolve().parent.parent), "TEMP": str(work / "tmp")}
    return spawn(command, cwd=work, env=environment | {"TMPDIR": str(work / "tmp")}, log=work / "log"), ports[0]


def ask(port: int) -> bool:
    """Whether a request is answered well."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("POST", f"/predictions/{NAME}", request_of(0), {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
        return response.status == 200
    except OSError:
        return False
    finally:
        connection.close()


def milliseconds(call: Callable[[], object], times: int = 200) -> float:
    """Median of one call."""
    call()
    took = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)


def main() -> None:
    """Take turns, then print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    ours_s, bare_s, ours_ms, bare_ms = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        packed = small_package(Path(folder))
        for number in range(rounds):
            work = Path(folder) / f"round{number}"
            began = time.perf_counter()
            child, port = bare(packed, work / "bare")
            wait_until(lambda port=port: ask(port), deadline_s=120, what="an answer", child=child)
            bare_s.append(time.perf_counter() - began)
            bare_ms.append(milliseconds(lambda port=port: ask(port)))
            child.stop(5)
            began = time.perf_counter()
            archive, work = Path(packed.archive), work / "ours"
            with Server.start(archive, digest=packed.digest, name=NAME, runtime=Runtime(), work=work) as server:
                wait_until(lambda server=server: ask(server.port), deadline_s=120, what="an answer", child=server.child)
                ours_s.append(time.perf_counter() - began)
                ours_ms.append(milliseconds(lambda server=server: ask(server.port)))
        with Predictor.load(Path(packed.folder), work=Path(folder)) as predictor:
            alone_ms = milliseconds(lambda: predictor.answer(request_of(0)))
    ours, by_hand = statistics.median(ours_s), statistics.median(bare_s)
    numbers = {
        "start_to_first_answer_s": {"ours": ours, "bare": by_hand, "ratio": ours / by_hand},
        "one_request_p50_ms": {
            "ours": statistics.median(ours_ms),
            "bare": statistics.median(bare_ms),
            "in_process": alone_ms,
        },
    }
    rounded = {name: {side: round(value, 2) for side, value in both.items()} for name, both in numbers.items()}
    print(json.dumps(rounded | {"rounds": rounds}, indent=2))


if __name__ == "__main__":
    main()
