"""What is tested: the case, and the model and the images that it names.

Face: `case.Case`, `case_files.read` and `select`, `sizes`, `inputs.prepare_inputs` and
`load_inputs`, `models`. May import: `system`.
"""
