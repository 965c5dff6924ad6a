"""Solvers: conjugate gradients, Poisson, least squares."""
