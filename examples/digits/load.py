"""A client that never pauses: sends real test images through the router and writes down every answer.

One line for each answer: seconds since the epoch, version that answered (`-` when nobody did), HTTP status
(0: no answer), milliseconds. Waits, uncounted, until the first request succeeds. Ends on SIGTERM.
"""

import argparse
import http.client
import itertools
import json
import signal
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from sklearn.datasets import load_digits

MOST_SECONDS = 900  # whatever happens, this client ends


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--yard", type=Path, required=True, help="yard.json, which names the router's port")
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rps", type=float, default=200.0)
    parser.add_argument("--connections", type=int, default=12)
    options = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    bodies = [json.dumps({"image": image.tolist()}).encode() for image in load_digits().images[-500:]]
    ends = time.monotonic() + MOST_SECONDS
    while not stop.is_set() and time.monotonic() < ends and not options.yard.exists():
        stop.wait(0.05)
    options.port = urlsplit(json.loads(options.yard.read_text())["router"]).port
    while not stop.is_set() and time.monotonic() < ends and send(None, options, bodies[0])[1] != 200:
        stop.wait(0.05)
    # One schedule for all connections: each takes the next moment, so that a slow answer delays no other.
    moments = itertools.count()
    began = time.monotonic()
    lock = threading.Lock()
    with options.out.open("w", buffering=1) as log:

        def work() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", options.port, timeout=20)
            while not stop.is_set() and time.monotonic() < ends:
                with lock:
                    number = next(moments)
                stop.wait(max(0.0, began + number / options.rps - time.monotonic()))
                started = time.monotonic()
                version, status = send(connection, options, bodies[number % len(bodies)])
                took = 1000 * (time.monotonic() - started)
                log.write(f"{time.time():.4f} {version} {status} {took:.2f}\n")

        threads = [threading.Thread(target=work) for _ in range(options.connections)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def send(connection: http.client.HTTPConnection | None, options: argparse.Namespace, body: bytes) -> tuple[str, int]:
    """Ask once. Gives the version that answered and the status."""
    connection = connection or http.client.HTTPConnection("127.0.0.1", options.port, timeout=20)
    try:
        path = f"/v1/models/{options.model}:predict"
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return "-", 0
    return answer.headers.get("x-modelyard-version", "-"), answer.status


if __name__ == "__main__":
    main()
