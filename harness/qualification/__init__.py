"""A stack's operators in question, without a model's accuracy: what CANN accepts, and every call.

Faces: `fingerprint.take`, `support.examine`; `building.build`, `catalogue.read`, `run.run`,
`certificate.certify`, `changes.between`.  May import: `execution` and below.
"""
