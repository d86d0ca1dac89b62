"""What needs a cluster runs by `make e2e-smoke` and `make e2e` only."""

import os

if "MODELYARD_E2E" in os.environ:
    from tests.e2e.cluster.fixtures import site, timed, traffic, versions

    __all__ = ["site", "timed", "traffic", "versions"]
else:
    collect_ignore_glob = ["test_cluster_*.py"]
