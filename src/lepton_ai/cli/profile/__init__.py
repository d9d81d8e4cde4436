"""``lepton bench --profile``: where the time of a step goes, beside its limit."""
