"""One case in order, one run, many hosts.

Face: `runner.CaseRunner`, `session.Session`, `shards`, `resume`, `merge`, `cluster`,
`follower`. May import: `detection`, `upgrade` and below; never `report`.
"""
