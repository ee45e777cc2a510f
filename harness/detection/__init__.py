"""Which faults the verdict would have shown: of one case, and in a study of many.

Face: `catalogue`, `sensitivity.measure`, `study.run`, `study_results`. May import: `execution`
and below.
"""
