"""The world of a cluster: the four ports over the Kubernetes API."""
