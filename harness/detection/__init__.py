"""Which faults the verdict would have shown, of one case and in a study; whether it accuses others.

Face: `catalogue`, `sensitivity.measure`, `study.run`, `engine_study.run`, `study_results`. May
import: `execution` and below.
"""
