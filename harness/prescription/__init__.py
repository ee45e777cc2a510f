"""Which modules a model has to keep in float32 to reach a target in a short dtype.

Faces: `prescribe.prescribe`, `targets.parse`, `plan_of.plan_of`.  May import: `upgrade`
(the grammar of targets), `execution` and below.
"""
