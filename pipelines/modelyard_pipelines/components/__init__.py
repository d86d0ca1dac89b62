"""A file for each step: what Kubeflow runs in a pod. Each is thin: its source travels in the compiled pipeline."""
