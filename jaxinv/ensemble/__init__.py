"""Many models at once: mapping, seeds, memory, timing."""
