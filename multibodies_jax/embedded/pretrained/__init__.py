"""The weights that ship with the package, as data (`prediction/pretrained.py` reads them)."""
