"""What was before: expected rows, two runs beside each other, history, versions.

Face: `expected.Expected`, `expected_of_run`, `expected_file`, `compare.compare`, `conditions`,
`history`. May import: `records` and below.
"""
