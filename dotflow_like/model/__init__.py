"""Frozen values and the words for them; no input or output."""
