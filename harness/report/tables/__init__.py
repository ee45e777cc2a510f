"""Tables of records, each by one function, for every renderer.

May import: what `report` may.
"""
