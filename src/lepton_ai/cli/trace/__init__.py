"""``lepton bench --trace``: what an engine did under a mixed load, as a picture or as events."""
