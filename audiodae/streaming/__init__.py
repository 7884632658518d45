"""Cleaning in time: chunks in, samples of the same moments out. Everything that cleans goes through here."""
