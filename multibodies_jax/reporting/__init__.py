"""Tables of many evaluated work directories."""

WHATS = ("table1", "table2", "all")
"""What a report can hold; see `multibodies report --help`."""
