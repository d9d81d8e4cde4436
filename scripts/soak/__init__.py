"""A soak of `lepton serve`: requests, what is expected of their answers, and a server as a process to send them to."""
