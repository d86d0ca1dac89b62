"""One run of a project through the ten stages: the table, the keys, the journal, the lock."""
