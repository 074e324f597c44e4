"""The builder of `lsp`: see README.md."""
