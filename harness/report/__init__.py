"""Views of records: tables hold the words and numbers, renderers only lay them out.

Face: `text`, `markdown`, `spreadsheet`, `junit`, `study`, `html.page`, `port.document`. May
import: `upgrade`, `detection.study_results`, `records` and below; never `runs`, never
`execution`.
"""
