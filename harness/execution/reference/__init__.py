"""What the CPU answers: reference, float64 oracle, budgets, and their cache.

Face: `cpu_side.CpuSide`, `cache.ReferenceCache`, `keys`. May import: what `execution` may, and
`legs`.
"""
