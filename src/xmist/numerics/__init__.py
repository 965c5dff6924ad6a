"""Operators and solvers on arrays, in pixel units: no physics of a facility, no files."""
