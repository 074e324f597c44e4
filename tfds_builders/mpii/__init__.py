"""The builder of `mpii`: see README.md."""
