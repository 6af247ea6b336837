"""Measures Quartet against the same graphs run with no service around them.

Start at `__main__.py`; what is measured, and how, is written in `docs/benchmarks.md`.
"""
