"""Operators, solvers and image processing on arrays in pixel units; no physics, no files."""
