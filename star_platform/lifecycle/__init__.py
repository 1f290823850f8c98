"""Who reads what, and how a release is deprecated, retired and purged."""
