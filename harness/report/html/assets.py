"""Files that go into the page as they are."""

from pathlib import Path

STYLESHEET = Path(__file__).with_name("harness.css")
SCRIPT = Path(__file__).with_name("harness.js")
UPGRADE_SCRIPT = Path(__file__).with_name("upgrade.js")
