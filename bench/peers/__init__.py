"""Lepton beside every other engine for CPUs: their environments, workers and forms of models, and the measurement."""
