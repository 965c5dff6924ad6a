"""Speckle experiments with a known truth."""
