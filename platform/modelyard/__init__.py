"""Modelyard: one model, from data to live traffic."""
