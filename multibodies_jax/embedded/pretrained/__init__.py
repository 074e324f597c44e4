"""The weights that ship with the package, as data (`training/packed.py` reads them)."""
