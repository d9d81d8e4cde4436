"""Memory of keys and values: who holds which block, and what is found in the cache."""
