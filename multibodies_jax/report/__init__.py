"""Tables for people: of one evaluation (`markdown`), and of many beside each other (`python -m multibodies_jax.report`)."""

from multibodies_jax.report.single import markdown, published_table

__all__ = ["markdown", "published_table"]
