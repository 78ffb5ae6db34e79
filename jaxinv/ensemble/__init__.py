"""Many models at once: mapping, programs, seeds, memory, timing."""
