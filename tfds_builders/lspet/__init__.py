"""The builder of `lspet`: see README.md."""
