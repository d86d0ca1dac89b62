"""What people write: the only schema. Records here, JSON Schema and CRDs emitted from them."""
