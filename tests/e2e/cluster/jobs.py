"""training-operator 1.9.4 on the node, by its own manifests from its own Go module, and what its jobs need there."""

import stat
from pathlib import Path
from string import Template
from typing import Any, Final

import yaml
from tests.cluster import build, images, machine
from tests.e2e.cluster.site import Site
from tests.e2e.cluster.stage import TAG, WHEELS, load

IMAGE: Final = "modelyard.test/training-operator:1"
TRAINING: Final = f"modelyard/training:{TAG}"
NAMESPACE: Final = "kubeflow"
NAME: Final = "training-operator"


def install(site: Site) -> None:
    """The operator, its definitions and its webhook; our image for training; a volume for checkpoints."""
    build.build((NAME,))
    load(images.small(IMAGE, {"manager": build.place(NAME)}, command=("/manager",)))
    load(images.ours("training", tag=TAG, wheels=WHEELS))
    base = build.module(NAME, "github.com/kubeflow/training-operator") / "manifests" / "overlays" / "standalone"
    told = site.kubectl("kustomize", str(base))
    made = [_ours(each) for each in yaml.load_all(told, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))]
    site.apply(yaml.safe_dump_all(made))
    site.apply(Template((Path(__file__).parent / "manifests" / "trainings.yaml").read_text()).safe_substitute(
        FOLDER=_folder()))  # fmt: skip
    site.rolled_out(NAMESPACE, NAME)


def _ours(each: dict[str, Any]) -> dict[str, Any]:
    """The Deployment with an image that is there, for PyTorchJobs only."""
    if each["kind"] == "Deployment":
        pod = each["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        container |= {
            "image": IMAGE, "imagePullPolicy": "Never",
            "args": ["--enable-scheme=pytorchjob", f"--pytorch-init-container-image={TRAINING}"],
        }  # fmt: skip
        container["volumeMounts"].append({"name": "config", "mountPath": "/etc/config", "readOnly": True})
        pod["volumes"].append({"name": "config", "configMap": {"name": NAME}})
    return each


def _folder() -> Path:
    """Where checkpoints lie, with the node's own state: any user of a pod may write there."""
    made = machine.home() / "checkpoints"
    made.mkdir(exist_ok=True)
    made.chmod(stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO)
    return made
