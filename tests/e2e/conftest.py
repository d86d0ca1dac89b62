"""What needs a cluster runs by `make e2e-smoke` and `make e2e` only."""

import os

collect_ignore_glob = [] if "MODELYARD_E2E" in os.environ else ["test_cluster_*.py"]
