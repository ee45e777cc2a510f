"""Whether a stack's operators are what is asked of them, without a model's accuracy in question.

Face: `support.examine`.  May import: `execution` and below.
"""
