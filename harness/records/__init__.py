"""What is kept: the lines of a results file, how they are written and read.

Face: `lines` (the records), `results_file.read`, `append` and `start`, `schema`. May import:
`cases.case`, `judgement`, `system`; never torch.
"""
