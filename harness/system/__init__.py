"""The machine under us: statuses and problems, files, versions, cores, this process.

Face: `status` (Status, Stage, CaseProblem, UsageProblem, ExitCode), `files`, `environment`,
`process`, `processor`, `quantities`. May import: nothing of `harness`; torch and timm inside
functions only.
"""
