"""The accuracy report that a port publishes, in Chinese and English.

Face: `content.Port`, `document`. May import: what `report` may, `report.tables`.
"""
