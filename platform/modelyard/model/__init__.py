"""A model in a folder, and the recipe that made it: what trainer, evaluation and server share.

This package stands alone (standard library, torch, numpy; onnxruntime where a variant needs it): every
model archive carries a copy of it, so that a server runs the very code that was evaluated.
"""
