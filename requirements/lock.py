"""Resolve requirements.in into one hashed lock, with torch's build as the only part that varies.

Writes beside this file, without any address in it:

- ``lock.txt``        everything but torch and what only torch's CUDA build needs
- ``torch-cuda.txt``  torch as the package index has it, with its CUDA libraries
- ``torch-cpu.txt``   the same version's CPU wheel, by its own hash (from a folder of wheels)

Usage: ``python requirements/lock.py [folder of wheels]``
"""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
CUDA_ONLY = re.compile(r"^(torch==|nvidia-|cuda-|triton==)")


def main(wheels: Path | None) -> None:
    compiled = subprocess.run(
        [
            *("uv", "pip", "compile", "--universal", "--python-version", "3.11", "--generate-hashes"),
            *("--no-emit-index-url", "--no-emit-find-links", "--no-header", "--no-annotate", "--quiet"),
            str(HERE / "requirements.in"),
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    entries = re.findall(r"^\S.*(?:\n    .*)*\n", compiled, flags=re.MULTILINE)
    varying = [entry for entry in entries if CUDA_ONLY.match(entry)]
    (HERE / "lock.txt").write_text("".join(e for e in entries if e not in varying))
    (HERE / "torch-cuda.txt").write_text("".join(varying))
    version = next(m[1] for e in varying if (m := re.match(r"torch==([\d.]+)", e)))
    found = sorted(wheels.glob(f"torch-{version}+cpu-*.whl")) if wheels else []
    if not found:
        print(f"no CPU wheel of torch {version} given: torch-cpu.txt is left as it is")
        return
    hashes = " \\\n".join(f"    --hash=sha256:{hashlib.sha256(w.read_bytes()).hexdigest()}" for w in found)
    (HERE / "torch-cpu.txt").write_text(f"torch=={version}+cpu \\\n{hashes}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
