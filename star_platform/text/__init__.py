"""Texts to vectors: one encoder interface, a content-hash cache, and the stage that uses both."""
