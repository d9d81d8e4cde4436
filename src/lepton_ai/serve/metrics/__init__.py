"""What the server is doing, for Prometheus and for a line of text now and then."""
