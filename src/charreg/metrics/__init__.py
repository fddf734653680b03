"""Measures of how good, how recognisable and how costly the super-resolved faces are."""
