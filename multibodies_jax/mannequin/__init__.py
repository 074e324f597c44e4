"""The procedural SMPL-format mannequin: generator of the embedded body."""
