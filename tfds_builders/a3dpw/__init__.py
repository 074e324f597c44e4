"""3DPW with parts of the people hidden: see README.md."""
