"""What was before: expected rows, two runs beside each other, history, versions, one decision.

Face: `expected.Expected`, `expected_of_run`, `expected_file`, `compare.compare`, `conditions`,
`history`, `decision.decide`.  May import: `qualification`, `records` and below.
"""
