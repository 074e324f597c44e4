"""Human3.6M: see README.md."""
