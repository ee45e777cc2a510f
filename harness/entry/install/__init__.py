"""Installs what a run needs: the harness' tools from the lock, and the stack under test.

Runs before anything is installed, so that it imports the standard library and `system.status`
alone.  Face: `python -m harness.entry.install` (Makefile), `stack` (which releases, and why).
"""
