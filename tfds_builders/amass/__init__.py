"""The builder of `amass`: see README.md."""
