"""Measurements: Lepton beside other engines, and its start, memory and size. Not part of what is installed."""
