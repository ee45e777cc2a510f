"""Which modules a model has to keep in float32 to reach a target in a short dtype.

Below: execution, which measures shares and runs both sides; upgrade, for the grammar of targets.
"""
