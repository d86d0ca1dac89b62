"""What the first step does: digests what there is now, so that every later key holds contents and no names."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from modelyard.data.sources import source_digest
from modelyard.errors import BadInput
from modelyard.evaluation.rules import PAIRED
from modelyard.spec.codec import from_data, to_data
from modelyard.spec.gates import GateRule, comparisons
from modelyard.spec.project import ModelProject
from modelyard_pipelines import wiring
from modelyard_pipelines.sections import inputs_digest, project_of
from modelyard_pipelines.step import Artifact, Step, step
from modelyard_pipelines.tracking import TAG

INPUTS = "modelyard.inputs"
"""Tag of a version: the digest of all that it was made of."""
RULES = "modelyard.rules"
"""Tag of the first step's run: the rules that compare with another version, and which alias names the champion."""
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
        at.tracked.log(
            params=_flat(sections), tags={INPUTS: made_of, "modelyard.alias": project.alias, **_rules(project)}
        )
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


def rules_of(model: str) -> tuple[str, tuple[GateRule, ...]]:
    """What the run's first step was told of comparisons: the alias, and the rules; none where nobody remembers.

    The train step has it from MLflow: as its inputs they would be in the key of its cache, and changed rules change no
    training. Where that key is known there is nothing left to refuse.
    """
    runs = wiring.runs(model)
    for one in runs.of_job(wiring.job()) if runs else ():
        if told := one.tags.get(RULES):
            known = json.loads(told)
            return known["alias"], tuple(from_data(GateRule, rule, where=RULES) for rule in known["gates"])
    return "", ()


def _rules(project: ModelProject) -> dict[str, str]:
    compared = [rule for rule in project.gates if any(name in PAIRED for name in comparisons(rule))]
    told = json.dumps({"alias": project.alias, "gates": [to_data(rule) for rule in compared]})
    return {RULES: told} if compared and len(told) <= TAG else {}


def _flat(sections: Mapping[str, Any], path: str = "") -> dict[str, str]:
    """Values by dotted path, as MLflow has parameters."""
    found: dict[str, str] = {}
    for name, value in sections.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{path}{name}.")
        else:
            found[f"{path}{name}"] = value if isinstance(value, str) else json.dumps(value)
    return found
