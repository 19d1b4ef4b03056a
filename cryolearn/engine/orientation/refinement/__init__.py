"""Projection matching with half sets apart, and ab initio starts by stochastic expectation-maximisation."""
