"""Kubeflow pipelines over the product's stages: the shell beside the command and the operator."""
