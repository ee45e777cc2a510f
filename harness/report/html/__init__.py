"""The HTML report: fragments for pytest-html, plots, the whole page.

Face: `page`, `fragments`. May import: what `report` may, `report.tables` and the text forms.
"""
