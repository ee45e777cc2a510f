"""How large the HTML report gets, and how soon it can be used, with the number of cases.

    python benchmarks/html_report.py RUN [--cases 1 50 500] [--rounds 5]

Pages are made from the records of RUN (a results file or its folder), repeated under other ids, as
`python -m harness report --format html` makes them, and opened in Chromium in turns, so that a slow
minute of the machine meets all.  Usable is when rows, search and sorting are there (the end of
DOMContentLoaded).  Prints megabytes, milliseconds until then and the processor's share of them in
the page's thread, which other work on the machine disturbs less, and the same of one search and of
one sort.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from harness.entry.commands import replay
from harness.records import results_file
from harness.system import quantities

_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_TIMES = """() => {
  const timed = (work) => {
    const start = performance.now();
    work();
    document.body.offsetHeight;
    return performance.now() - start;
  };
  const box = document.querySelector("#harness-search");
  const search = timed(() => {
    box.value = "strict";
    box.dispatchEvent(new Event("input"));
  });
  const sort = timed(() => document.querySelector('th[data-column-type="ratio"]').click());
  const [loaded] = performance.getEntriesByType("navigation");
  return [loaded.domContentLoadedEventEnd, search, sort];
}"""


def main() -> None:
    """Make the pages, open them in turns and print medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--cases", type=quantities.positive, nargs="+", default=[1, 50, 500])
    parser.add_argument("--rounds", type=quantities.positive, default=5)
    given = parser.parse_args()
    chromium = os.environ.get("HARNESS_CHROMIUM") or next(
        filter(None, map(shutil.which, _CHROMIUM)), None
    )
    if chromium is None:
        parser.error("no Chromium: install Debian's package chromium, or set HARNESS_CHROMIUM")
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as playwright:
        pages = {n: make(given.run, n, Path(directory)) for n in given.cases}
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        found: dict[int, list[list[float]]] = {n: [] for n in pages}
        for _ in range(given.rounds):
            for n, page in pages.items():
                found[n].append(measure(browser, page))
        browser.close()
        print("cases, MB, usable after ms, of these processor ms, search ms, sort ms")
        for n, page in pages.items():
            medians = map(statistics.median, zip(*found[n], strict=True))
            size = page.stat().st_size / 1e6
            print(f"{n}, {size:.2f}, {', '.join(f'{value:.0f}' for value in medians)}")


def make(source: Path, count: int, directory: Path) -> Path:
    """A page of so many cases."""
    run = results_file.read_run(source)
    cases = [
        run.cases[n % len(run.cases)].model_copy(
            update={"case_id": f"{run.cases[n % len(run.cases)].case_id}-{n}"}
        )
        for n in range(count)
    ]
    results = directory / f"{count}.jsonl"
    start = run.run.model_copy(update={"cases": [case.case_id for case in cases]})
    results_file.write(run.model_copy(update={"run": start, "cases": cases}), results)
    replay.write_page(results, page := directory / f"{count}.html")
    return page


def measure(browser: Browser, path: Path) -> list[float]:
    """Milliseconds until the page is usable, of the page's thread, of a search, of a sort."""
    context = browser.new_context(viewport={"width": 1300, "height": 900})
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto(path.as_uri(), wait_until="domcontentloaded")
    metrics = session.send("Performance.getMetrics")["metrics"]
    thread = next(item["value"] for item in metrics if item["name"] == "ThreadTime")
    usable, search, sort = page.evaluate(_TIMES)
    context.close()
    return [usable, 1e3 * thread, search, sort]


if __name__ == "__main__":
    main()
