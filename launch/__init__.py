"""Commands: flags in, calls, files out. The only place that reads flags."""
