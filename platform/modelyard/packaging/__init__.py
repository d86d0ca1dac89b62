"""A chosen variant becomes one file that a server can run: archive, manifest, signature, golden requests."""
