"""What `helm test` runs: ask the operator, then a model. Ends with 1 where either does not answer."""

import os
import sys
import time

import httpx


def ask(what: str, method: str, url: str, **given: object) -> httpx.Response:
    """Ask for a minute at most."""
    deadline, why = time.monotonic() + 60, ""
    while time.monotonic() < deadline:
        try:
            answer = httpx.request(method, url, timeout=10, **given)
            if answer.status_code == 200:
                return answer
            why = f"{answer.status_code}: {answer.text[:300]}"
        except httpx.HTTPError as error:
            why = str(error)
        time.sleep(1)
    sys.exit(f"{what} at {url} does not answer ({why})")


ask("the operator", "GET", os.environ["OPERATOR"])
print("the operator is ready")
url, host = os.environ["URL"], os.environ["HOST"]
if url:
    headers = {"content-type": "application/json"} | ({"host": host} if host else {})
    answer = ask("the model", "POST", url, content=os.environ["BODY"], headers=headers)
    version = answer.headers.get("x-modelyard-version")
    if version is None:
        sys.exit(f"what answers at {url} is no pod of a ModelDeployment: {answer.text[:300]}")
    print(f"version {version} predicts: {answer.text[:300]}")
else:
    print("no prediction was asked for: set test.url and test.body")
