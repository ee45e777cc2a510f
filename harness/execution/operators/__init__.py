"""Operators one by one: each call again elsewhere, compared, traced, written down.

Face: `comparison.compare_operators`, `trace.trace`, `reproducer.write`, `aten` (what each
product is). May import: what `execution` may, and of it `imitation`, `outputs` and `gelu`.
"""
