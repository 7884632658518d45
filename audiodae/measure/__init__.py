"""What cleaning is worth: metrics, pairs of noisy and clean recordings, tables."""
