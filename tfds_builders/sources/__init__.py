"""Readers of the official archives: annotations as plain rows, before any image is read."""
