"""Reports: views of records.  Tables hold the words and numbers, renderers only lay them out."""

from pathlib import Path

STYLESHEET = Path(__file__).with_name("harness.css")
SCRIPT = Path(__file__).with_name("harness.js")
