"""What loads an engine and measures it, each in a process of its own: one module for each engine and task."""
