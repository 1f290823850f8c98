"""Texts that change between releases: change events in, vectors out, seconds later."""
