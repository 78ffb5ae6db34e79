"""One model's engines: what a step is."""
