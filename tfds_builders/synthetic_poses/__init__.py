"""Poses and shapes of people, without images: see README.md."""
