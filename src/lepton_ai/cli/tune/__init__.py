"""``lepton tune``: short trials of what changes no bit, and the choice between them."""
