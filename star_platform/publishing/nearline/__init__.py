"""Near-line text vectors in Feast: a project of their own beside that of the releases."""
