"""Bytes at rest: written whole or not at all, named by their digest."""
