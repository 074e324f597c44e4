"""Rendered people with everything annotated: see README.md."""
