"""What users touch: pytest's plugin, the commands, the doctor, inference.

May import: everything; nothing imports it but `harness.api`.
"""
