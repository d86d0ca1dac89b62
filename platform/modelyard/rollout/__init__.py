"""The one rollout loop, shared by laptop and cluster: observe, decide, apply."""
