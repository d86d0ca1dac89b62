"""Fields that act on a cluster: what is refused, and with which way out."""

import pytest

from modelyard.errors import BadSpec
from modelyard.spec.parse import parse_deployment

WISH = """
apiVersion: modelyard.dev/v1alpha1
kind: ModelDeployment
metadata: {name: digits}
spec:
  model: {name: digits, alias: champion}
"""
POD = "  podTemplate: {spec: %s}\n"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("  replicas: 2\n  autoscaling: {maxReplicas: 3}\n", "spec.replicas: cannot act with autoscaling"),
        ("  autoscaling: {minReplicas: 0, maxReplicas: 3}\n", "minReplicas: 0 is less than 1: without KEDA's HTTP"),
        ("  autoscaling: {minReplicas: 4, maxReplicas: 3}\n", "maxReplicas: 3 < minReplicas 4"),
        ("  autoscaling: {maxReplicas: 3, metric: {type: CPU, gpu: {}}}\n", "metric.gpu: cannot act with type: CPU"),
        ("  autoscaling: {maxReplicas: 3, metric: {type: Prometheus}}\n", "type: Prometheus needs prometheus:"),
        ("  traffic: {gateway: Other, retries: 2}\n", "traffic.retries: cannot act with gateway: Other"),
        ("  traffic: {hostnames: [a.example.com]}\n", "traffic.hostnames: cannot act without parentRefs"),
        ("  traffic: {parentRefs: [{name: g}], filters: [{type: URLRewrite}]}\n", "URLRewrite is refused"),
        ("  podTemplate: {metadata: {labels: {modelyard.dev/arm: x}}}\n", "modelyard.dev/arm: is ours"),
        (POD % "{hostNetwork: true}", "podTemplate.spec.hostNetwork: is refused: the server's management port"),
        (POD % "{nodeSelectr: {a: b}}", "nodeSelectr: is refused; did you mean nodeSelector?"),
        (POD % "{containers: [{name: server, command: [sh]}]}", "containers.0.command: is refused: process 1 is ours"),
        (POD % "{containers: [{name: other}]}", "other has no image; the container that serves is named server"),
        (POD % "{containers: [{name: fetch}]}", "fetch belongs into the other list"),
        (POD % "{containers: server}", "must be a list of objects, each with a name of its own"),
        (POD % "{containers: [{name: server, env: [{name: AWS_REGION, value: x}]}]}", "AWS_REGION is set by us"),
        (POD % "{containers: [{name: server, volumeMounts: [{name: x, mountPath: /models/x}]}]}", "is a place of ours"),
        (POD % "{volumes: [{name: work, emptyDir: {}}]}", "work is a volume of ours"),
        (POD % "{volumes: [{name: host, hostPath: {path: /}}]}", "hostPath: is refused"),
    ],
)  # fmt: skip
def test_it_is_refused_at_its_field(spec: str, said: str) -> None:
    with pytest.raises(BadSpec) as refusal:
        parse_deployment(WISH + spec)
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    "spec",
    [
        "  autoscaling: {minReplicas: 2, maxReplicas: 20, metric: {type: CPU, cpu: {averageUtilization: 70}}}\n",
        POD % "{nodeSelector: {gpu: a100}, containers: [{name: server, resources: {limits: {nvidia.com/gpu: 1}}}]}",
        "  traffic: {parentRefs: [{name: public, namespace: infra}], hostnames: [digits.example.com]}\n",
    ],
)
def test_it_is_taken(spec: str) -> None:
    assert parse_deployment(WISH + spec).spec.least in (1, 2)
