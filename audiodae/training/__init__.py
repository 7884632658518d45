"""Training: corpora, mixtures, losses, steps, and the search for better recipes."""
