"""Damage and kills in bulk: what the project does with broken files and with processes that die at any moment.

    make torture MINUTES=10            # or: python -m tests.torture --minutes=10 [--campaign=files] [--seed=0]

It is no part of `make test`.
"""
