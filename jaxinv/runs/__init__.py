"""The folder of a run: its files, checkpoints, tables, pages and figures."""
