"""What a version of torch_npu calls, found without hardware.

Face: `check.check`. May import: `execution` and below.
"""
