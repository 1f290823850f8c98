"""Fine-tuning of the text encoder on what members did: STAR (arXiv 2507.09797), section 3."""
