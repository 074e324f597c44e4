"""People outdoors with SMPL bodies: see README.md."""
