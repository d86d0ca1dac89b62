"""Build the images with whichever of docker, podman and buildah is there. `make images` calls this.

The build context is staged in a temporary folder: our sources, the locks, and the CPU wheel of torch where one is
given. An image is known by the digest of that context and its arguments, its label `dev.modelyard.inputs`: one that
stands already is not built again. Times come from SOURCE_DATE_EPOCH (else 0), so that equal inputs give equal layers
where the builder can (buildah and podman).

    python images/build.py                                     all four, CUDA
    python images/build.py operator serving --torch cpu --wheels ../shared/wheels --out dist/images
    python images/build.py operator --base localhost/python:3.11 -- --isolation chroot --network host

What stands after `--` goes to the builder as it is.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("operator", "serving", "training", "pipelines")
SOURCES = ("platform", "operators", "pipelines", "images", "requirements", "pyproject.toml", "README.md", "LICENSE")
BUILDERS = ("docker", "podman", "buildah")
LABEL = "dev.modelyard.inputs"


def builder(wanted: str | None) -> str:
    """The program that builds."""
    for name in (wanted,) if wanted else BUILDERS:
        if shutil.which(name) and subprocess.run([name, "info"], capture_output=True, check=False).returncode == 0:
            return name
    sys.exit(f"none of {wanted or ', '.join(BUILDERS)} works here: install one of them (apt-get install buildah)")


def stage(context: Path, wheels: Path | None, torch: str) -> None:
    """Copy what a build needs, and nothing else."""
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, context / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copyfile(source, context / name)
    (context / "wheels").mkdir()
    found = sorted(wheels.glob("torch-*.whl")) if wheels and torch == "cpu" else []
    for wheel in found:
        shutil.copyfile(wheel, context / "wheels" / wheel.name)
    if torch == "cpu" and not found:
        sys.exit("--torch cpu needs --wheels: a folder with the wheel that requirements/torch-cpu.txt names")


def inputs(context: Path, name: str, args: Sequence[str]) -> str:
    """Digest of all that this image is made of."""
    others = {f"images/{other}" for other in NAMES if other != name}
    digest = hashlib.sha256("\0".join(args).encode())
    for path in sorted(each for each in context.rglob("*") if each.is_file()):
        place = path.relative_to(context).as_posix()
        if any(place.startswith(f"{other}/") for other in others) or (name == "operator" and path.suffix == ".whl"):
            continue
        digest.update(f"{place}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def stands(tool: str, image: str, key: str) -> bool:
    """Whether the image is there already, of the same inputs."""
    form = "{{index .OCIv1.Config.Labels %r}}" if tool == "buildah" else "{{index .Config.Labels %r}}"
    inspect = [tool, "inspect", *(["--type", "image"] if tool != "docker" else []), "--format"]
    asked = [*inspect, (form % LABEL).replace("'", '"'), image]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() == key


def build(tool: str, name: str, image: str, context: Path, *, build_args: Sequence[str], rest: Sequence[str]) -> None:
    """Build one image."""
    key = inputs(context, name, (*build_args, *rest))
    if stands(tool, image, key):
        print(f"{image}: stands", flush=True)
        return
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "0")
    how = ["buildx", "build", "--load", "--provenance=false"] if tool == "docker" else ["build"]
    times = [] if tool == "docker" else ["--timestamp", epoch, "--layers"]
    every = (*build_args, f"SOURCE_DATE_EPOCH={epoch}", f"REVISION={revision()}")
    given = [part for each in every for part in ("--build-arg", each)]
    command = [
        *(tool, *how, *times, *given, "--label", f"{LABEL}={key}"),
        *("--file", context / "images" / name / "Dockerfile", "--tag", image, *rest, context),
    ]
    print(f"{image}: {tool} builds", flush=True)
    if subprocess.run(command, check=False).returncode:
        sys.exit(f"{image} could not be built: see {tool}'s last lines above")


def save(tool: str, name: str, image: str, out: Path) -> None:
    """Write the image as an OCI archive (docker: its own), and its bill of materials beside it."""
    out.mkdir(parents=True, exist_ok=True)
    archive, part = out / f"{name}.tar", out / f"{name}.tar.part"
    part.unlink(missing_ok=True)
    match tool:
        case "docker":
            subprocess.run([tool, "save", "--output", part, image], check=True)
        case "podman":
            subprocess.run([tool, "save", "--quiet", "--format", "oci-archive", "--output", part, image], check=True)
        case _:
            subprocess.run([tool, "push", "--quiet", image, f"oci-archive:{part}:{image}"], check=True)
    part.rename(archive)
    (out / f"{name}.cdx.json").write_bytes(bill(tool, image))
    print(f"{archive}: {archive.stat().st_size / 1e6:.0f} MB packed", flush=True)


def bill(tool: str, image: str) -> bytes:
    """The bill of materials that the build wrote into the image."""
    where = "opt/modelyard/sbom.cdx.json"
    if tool == "buildah":
        made = _said([tool, "from", "--pull-never", image])
        try:
            return (Path(_said([tool, "mount", made])) / where).read_bytes()
        finally:
            subprocess.run([tool, "rm", made], capture_output=True, check=False)
    run = [tool, "run", "--rm", "--entrypoint", "python", image, "-c"]
    return subprocess.run([*run, f"print(open('/{where}').read())"], capture_output=True, check=True).stdout


def _said(command: Sequence[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def revision() -> str:
    """The commit, where there is a repository."""
    asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return asked.stdout.strip() or "unknown"


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("names", nargs="*", metavar="image", help=f"{', '.join(NAMES)} (default: all)")
    made.add_argument("--builder", choices=BUILDERS, help="default: the first that works")
    made.add_argument("--prefix", default="modelyard", help="before each name, such as registry.example.com/modelyard")
    made.add_argument("--tag", help="default: the version")
    made.add_argument("--base", help="instead of the pinned base, such as a mirror's or your own")
    made.add_argument("--torch", choices=("cuda", "cpu"), default="cuda")
    made.add_argument("--wheels", type=Path, help="folder with torch's CPU wheel")
    made.add_argument("--out", type=Path, help="also write <name>.tar and <name>.cdx.json (the bill of materials) here")
    argv, rest = sys.argv[1:], []
    if "--" in argv:
        argv, rest = argv[: argv.index("--")], argv[argv.index("--") + 1 :]
    given = made.parse_args(argv)
    if unknown := set(given.names) - set(NAMES):
        made.error(f"there is no image {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    tool = builder(given.builder)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    with tempfile.TemporaryDirectory(prefix="modelyard-images-") as folder:
        context = Path(folder)
        names = given.names or NAMES
        stage(context, given.wheels, given.torch if set(names) - {"operator"} else "none")
        for name in names:
            image = f"{given.prefix}/{name}:{given.tag or version}"
            args = [f"VERSION={version}"]
            args += [f"BASE={given.base}"] if given.base else []
            args += [f"TORCH={given.torch}"] if name != "operator" else []
            build(tool, name, image, context, build_args=args, rest=rest)
            if given.out:
                save(tool, name, image, given.out)


if __name__ == "__main__":
    main()
