"""Probes of a device's arithmetic by crafted inputs: what it computes, not what it is set to.

Each module asks one kind of question; `execution/probe_requests` sends them to a device's process.
"""
