"""Stage 1: from a source of examples to checked, split, sharded data that is named by its content."""
