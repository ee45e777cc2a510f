"""Runs a case's two sides: one leg, in which process, what the CPU answers, operators, times.

Face: `sides.Sides` (request, judge), `legs`, `worker.DeviceWorker`, `localize`, `throughput`;
`operators` and `reference` are rooms of their own inside. May import: `devices`, `records`,
`judgement`, `cases`, `system`.
"""
