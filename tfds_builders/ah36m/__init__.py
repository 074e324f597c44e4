"""Human3.6M with parts of the people hidden: see README.md."""
