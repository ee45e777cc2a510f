"""What numbers mean: formulas, budgets, the documented table, the verdict.

NumPy and SciPy only, never torch. Face: `verdict.judge`, `Evidence` and `Verdict`,
`documented`, `budget`, `metrics`, `arithmetic`, `timing`, `intervals`. May import:
`system.status`.
"""
