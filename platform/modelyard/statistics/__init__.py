"""Statistics that gates and canary analysis stand on: pure functions, numpy in the bootstrap only."""
