"""Servers of one model archive each: the handler that travels in it, and the runtimes that run it."""
