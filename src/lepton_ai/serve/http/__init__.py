"""HTTP: connections, what every request passes, bodies, errors and events."""
