"""Write down what an image is made of, as CycloneDX 1.6 JSON: its Python packages, and its base's Debian packages.

Runs in the image's build, in the environment that will run. https://cyclonedx.org/docs/1.6/json/

Usage: ``python sbom.py <name of the image>``
"""

import hashlib
import json
import sys
import uuid
from importlib.metadata import distributions, version
from pathlib import Path

STATUS = Path("/var/lib/dpkg/status")


def component(kind: str, name: str, version: str, licence: str = "") -> dict[str, object]:
    named = {"name": licence} if licence else None
    return {
        "type": "library",
        "name": name,
        "version": version,
        "purl": f"pkg:{kind}/{name}@{version}",
        "bom-ref": f"pkg:{kind}/{name}@{version}",
        **({"licenses": [{"license": named}]} if named else {}),
    }


def python_packages() -> list[dict[str, object]]:
    found = {
        each.metadata["Name"].lower().replace("_", "-"): (each.version, each.metadata.get("License-Expression") or "")
        for each in distributions()
    }
    return [component("pypi", name, *rest) for name, rest in sorted(found.items())]


def debian_packages(status: Path = STATUS) -> list[dict[str, object]]:
    if not status.is_file():
        return []
    found = []
    for paragraph in status.read_text(errors="replace").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Status", "").endswith(" installed"):
            found.append(component("deb/debian", fields["Package"], fields["Version"]))
    return sorted(found, key=lambda each: str(each["name"]))


def bill(image: str) -> dict[str, object]:
    """The whole document. It has no time, and its serial number follows from its content: builds can be compared."""
    components = python_packages() + debian_packages()
    digest = hashlib.sha256(json.dumps([image, components], sort_keys=True).encode()).digest()
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.UUID(bytes=digest[:16], version=4)}",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": f"modelyard/{image}", "version": version("modelyard")}},
        "components": components,
    }


if __name__ == "__main__":
    json.dump(bill(sys.argv[1]), sys.stdout, indent=1)
