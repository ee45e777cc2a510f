"""Pytest plugins of others, one of each kind, for runs in a process of their own."""
