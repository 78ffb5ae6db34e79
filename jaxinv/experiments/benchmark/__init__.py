"""launch.benchmark: speed and memory."""
