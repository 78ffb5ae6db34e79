"""The run's folder: files, checkpoints, pages, processes."""
