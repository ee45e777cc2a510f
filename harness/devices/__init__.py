"""Where a case runs: a name, a protocol, four kinds of device, fault plans, leases.

Face: `spec.DeviceSpec` and `parse` (what the user wrote), `choice.choose` (settles `auto`),
`opening.open_device`, `device.Device` (the protocol), `fault_plan`, `leases`. May import:
`records.leg` (a device describes itself), `system`; torch in `cpu`, `cuda` and `npu` only.
"""
