"""LTGNN: implicit propagation in linear time (Zhang et al., WWW 2024, arXiv 2402.13973)."""
