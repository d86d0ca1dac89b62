"""How good is a model, and is it good enough: per-example results, metrics with intervals, rules with three answers."""
