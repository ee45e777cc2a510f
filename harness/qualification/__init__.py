"""Operators qualified once for every model: the calls of all timm, judged on a device one by one.

Face: `catalogue.build` and `read`, `calls.trace`, `run.run`, `certificate.certify`,
`changes.between`. May import: `execution`, `devices`, `records`, `cases`, `judgement`, `system`.
"""
