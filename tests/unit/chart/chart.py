"""The chart, rendered by Helm's own code: milliseconds, no cluster."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from helm_python import Chart

ROOT = Path(__file__).parents[3]
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
CHART = ROOT / "charts" / "modelyard"

VALUES: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "namespaced": {
        "operator": {"namespaced": True, "prometheus": "http://prometheus.monitoring:9090"},
        "crds": {"install": False},
    },
    "observed": {
        "metrics": {
            "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "rules": {"enabled": True, "labels": {"release": "prometheus"}},
            "dashboards": {"enabled": True},
        },
        "networkPolicy": {"from": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}]},
    },
    "trying": {
        "operator": {"replicas": 1},
        "mlflow": {"enabled": True},
        "test": {"url": "http://gateway/predictions/digits", "host": "digits.example.com", "body": "[[0]]"},
    },
    "air-gapped": {
        "images": {"registry": "registry.example.com/mirror", "tag": "0.1.0-fips", "pullSecrets": ["mirror"]},
        "operator": {
            "namespaced": True,
            "env": [{"name": "SSL_CERT_FILE", "value": "/etc/ssl/certs/ours.pem"}],
            "nodeSelector": {"pool": "system"},
            "tolerations": [{"key": "system", "operator": "Exists"}],
            "priorityClassName": "system-cluster-critical",
            "podLabels": {"team": "ml"},
            "podAnnotations": {"example.com/scanned": "yes"},
        },
        "networkPolicy": {"enabled": False},
        "onCall": {"enabled": False},
        "mlflow": {
            "enabled": True,
            "image": "mlflow@sha256:" + "0" * 64,
            "postgresSecret": "postgres",
            "s3": {"destination": "s3://models/prod", "endpoint": "http://minio:9000", "credentialsSecret": "s3"},
        },
    },
}  # fmt: skip
"""Five sets of values, each with a golden file."""


@cache
def chart() -> Chart:
    return Chart.load(str(CHART))


def rendered(values: Mapping[str, Any], *, name: str = "modelyard", namespace: str = "modelyard") -> dict[str, str]:
    """Template → text."""
    chart().validate_schema(dict(values))
    return chart().render(dict(values), name=name, namespace=namespace)


def objects(values: Mapping[str, Any], **at: str) -> list[dict[str, Any]]:
    """Every object of a release, without its notes."""
    texts = (text for name, text in sorted(rendered(values, **at).items()) if not name.endswith(".txt"))
    return [each for text in texts for each in _parsed(text)]


@cache
def _parsed(text: str) -> tuple[dict[str, Any], ...]:
    """Each text is parsed once, by libyaml: the definitions are long."""
    return tuple(each for each in yaml.load_all(text, Loader=LOADER) if each)
