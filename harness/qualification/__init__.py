"""What a device computes and accepts, beside any model: its arithmetic by fingerprint.

Face: `fingerprint`.  Imports `execution/` and what lies below it.
"""
