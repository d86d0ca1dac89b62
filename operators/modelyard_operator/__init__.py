"""The operator: the shell in which the rollout loop lives on a Kubernetes cluster."""
