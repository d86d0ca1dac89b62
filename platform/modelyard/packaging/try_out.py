"""The second half of the stage: a real server must answer the golden requests before anything is registered."""

from pathlib import Path

from modelyard.errors import StageFailed
from modelyard.packaging.golden import difference
from modelyard.packaging.packed import Package
from modelyard.serving.torchserve import Server
from modelyard.spec.deployment import Runtime
from modelyard.verdict import Outcome, Reason, Verdict


def try_out(package: Package, *, serving: Runtime, work: Path, deadline_s: float = 120.0) -> Verdict:
    """Start the wished server with the archive and compare its answers with the recorded ones.

    Args:
        package: what `package` gave.
        serving: the wished runtime.
        work: below it the server gets a folder of its own, `try`.
        deadline_s: seconds until the first prediction must have been answered.

    Returns:
        Passed, or Failed with the first difference: both sides.

    Raises:
        Tampered: the archive's bytes are not the packaged ones.
        BadInput: no Java.
        Unavailable: the server did not come up in time.
    """
    archive = Path(package.archive)
    with Server.start(archive, digest=package.digest, name=package.name, runtime=serving, work=work / "try") as server:
        golden = server.contents.golden
        try:
            server.wait_ready(deadline_s)
        except StageFailed as error:
            return _failed(error.what)
        for request in golden.requests:
            status, answer = server.ask_golden(request)
            if status != 200:
                return _failed(f"golden request {request.id} was answered {status} {answer!r:.200}, recorded was 200")
            if differs := difference(request.answer, answer, golden.tolerance):
                return _failed(f"golden request {request.id}: {differs} (tolerance {golden.tolerance:g})")
    return Verdict(
        outcome=Outcome.PASSED,
        reason=Reason.GOLDEN_REQUESTS_ANSWERED,
        message=f"a real server gave the recorded answers to {len(golden.requests)} golden requests",
    )


def _failed(message: str) -> Verdict:
    return Verdict(outcome=Outcome.FAILED, reason=Reason.GOLDEN_REQUESTS_DIFFER, message=message)
