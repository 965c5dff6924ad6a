"""Derivatives and transport operators, with their adjoints."""
