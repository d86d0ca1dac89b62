"""The init container of a training's pod: fetch what is trained, by digest, and verify it before anything runs.

`python -m modelyard.training.fetch --store s3://models/digits --training train-digits-a1 --digest sha256:…
--modelyard 0.1.0 --into /training/job`. Changed code needs no new image; an image with another Modelyard is refused.

Why it failed stands in the pod's status, as a report in JSON; the exit code is 65 (bytes differ from their digest),
78 (another version), 2 (something is not there) or 75 (the store is away: another try may do).
"""

import argparse
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

from modelyard.errors import BadInput, ModelyardError, Tampered, Unavailable
from modelyard.spec.codec import to_json
from modelyard.storage.code import unpack
from modelyard.storage.port import open_store
from modelyard.training.failures import Report
from modelyard.training.pod import OTHER_VERSION
from modelyard.training.shipping import receive

TERMINATION_LOG: Final = Path("/dev/termination-log")
"""Where kubelet reads why a container ended; 4096 bytes at most."""
DATA, NO_INPUT, TEMPORARY = 65, 2, 75 + 128
"""Exit codes: below 128 another try is in vain."""
PATIENCE_S = 60.0


def check_version(wanted: str) -> None:
    """Refuse an image with another Modelyard: what it writes may mean something else.

    Raises:
        BadInput: it has another one.
    """
    if (found := version("modelyard")) != wanted:
        raise BadInput(
            f"the image has Modelyard {found}, the training was started by {wanted}",
            do=f"name an image with Modelyard {wanted} in train.resources.image",
        )


def leave_report(report: Report, file: Path) -> None:
    """Leave a report where kubelet reads it, in the 4096 bytes that fit."""
    if file.exists():
        file.write_text(to_json(report, indent=None)[:4096])


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    parser = argparse.ArgumentParser(prog="modelyard.training.fetch", description=__doc__.partition("\n")[0])
    for name in ("--store", "--training", "--digest", "--modelyard"):
        parser.add_argument(name, required=True)
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--patience", type=float, default=PATIENCE_S, help="seconds to wait for what is away")
    parser.add_argument("--termination-log", type=Path, default=TERMINATION_LOG)
    given = parser.parse_args(argv)
    try:
        check_version(given.modelyard)
    except BadInput as error:
        return _failed(error, OTHER_VERSION, given.termination_log)
    deadline, pause = time.monotonic() + given.patience, 0.5
    while True:
        try:
            job = receive(open_store(given.store), given.training, given.digest, given.into)
            unpack(Path(job.code), job.code_digest, given.into / "code")
            return 0
        except Unavailable as error:
            if time.monotonic() + pause > deadline:
                return _failed(error, TEMPORARY, given.termination_log)
        except ModelyardError as error:
            return _failed(error, DATA if isinstance(error, Tampered) else NO_INPUT, given.termination_log)
        time.sleep(pause)
        pause = min(pause * 2, 10.0)


def _failed(error: ModelyardError, code: int, log: Path) -> int:
    print(error, file=sys.stderr)  # noqa: T201  the container's log
    leave_report(Report(rank=-1, kind=type(error).__name__, what=error.what, do=error.do, at=time.time()), log)
    return code


if __name__ == "__main__":
    sys.exit(main())
