"""What the first step does: digests what there is now, so that every later key holds contents and no names."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from modelyard.data.sources import source_digest
from modelyard.errors import BadInput
from modelyard_pipelines import wiring
from modelyard_pipelines.sections import inputs_digest, project_of
from modelyard_pipelines.step import Artifact, Step, step

INPUTS = "modelyard.inputs"
"""Tag of a version: the digest of all that it was made of."""
NEW, KNOWN = "New", "Known"


class Seen(NamedTuple):
    """What the later steps are given."""

    source: str
    news: str


def looked(
    *, sections: Mapping[str, Any], code: str, store: str, data_digest: str, compiled: str, overview: Artifact
) -> Seen:
    """Look at data, code, image and registry before hours of work, not after.

    Raises:
        BadInput: the image is another Modelyard's; the code is not in the store; the data are not those that the run
            was asked for.
    """
    wiring.same_version(compiled)
    project = project_of(**sections)
    with step("look", project, code=code, store=store) as at:
        source = source_digest(project.data, base=Path("/"))
        if data_digest and data_digest != source:
            raise BadInput(
                f"the data have digest {source}, and this run was asked for {data_digest}",
                do="run again without data_digest, or bring those data back",
            )
        made_of = inputs_digest(project, code=code, source=source)
        versions = wiring.registry().versions(project.metadata.name)
        known = next((one for one in versions if one.tags.get(INPUTS) == made_of), None)
        at.tracked.log(params=_flat(sections), tags={INPUTS: made_of, "modelyard.alias": project.alias})
        told = f"version {known.version} was made of the same" if known else "nothing was made of this yet"
        at.tracked.log(tags={"modelyard.news": f"nothing new: {told}"} if known else {})
        lines = [f"# {project.metadata.name}", "", f"- data: `{source}`", f"- code: `{code}`", f"- {told}"]
        lines += [f"- [run in MLflow]({at.tracked.page})"] if at.tracked.page else []
        Path(overview.path).write_text("\n".join(lines) + "\n", "utf-8")
    return Seen(source=source, news=KNOWN if known else NEW)


def same_source(at: Step, source: str) -> None:
    """Refuse data that changed since the first step: the result would be cached under the digest of others.

    Raises:
        BadInput: they did.
    """
    now = source_digest(at.project.data, base=Path("/"), memory=at.walk.state / "sources.json")
    if now != source:
        raise BadInput(f"the data changed while the run went on: {now}, before {source}", do="run again")


def _flat(sections: Mapping[str, Any], path: str = "") -> dict[str, str]:
    """Values by dotted path, as MLflow has parameters."""
    found: dict[str, str] = {}
    for name, value in sections.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{path}{name}.")
        else:
            found[f"{path}{name}"] = value if isinstance(value, str) else json.dumps(value)
    return found
