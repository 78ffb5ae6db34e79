"""Figures for people, each a function from numbers to a matplotlib figure."""
