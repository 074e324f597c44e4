"""Synthetic people: poses, clothes, light and camera of the embedded dataset."""
