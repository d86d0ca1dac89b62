"""The world on one machine: records are files, arms are TorchServe processes, the router is Envoy."""
