"""A run's record and results, gathered into what `reports` renders."""
