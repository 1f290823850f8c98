"""Maps from a new embedding space to the older ones that somebody still reads."""
