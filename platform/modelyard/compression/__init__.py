"""Smaller and faster forms of one model, each judged by what it costs on data and what it gains on the clock."""
