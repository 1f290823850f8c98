"""Declare graph signals once, release versioned embeddings, read them through Feast."""

__version__ = "0.1.0"
