"""What came of a run, for people: one HTML file, and Markdown where HTML cannot go."""
