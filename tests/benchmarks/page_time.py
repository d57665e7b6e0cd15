"""How long until the page can be used, and until it answers: real command, real browser.

    python -m tests.benchmarks.page_time [--rounds 3]

In turn with ``beleg chat`` on the bundled example, another process imports gradio and loads the
encoder; the page should be usable in twice that. An example question is clicked as soon as
it can be, and again on a fresh page a little later, as someone would who looks at it first.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import time

from playwright.sync_api import Browser, sync_playwright

from tests.conftest import chat

IMPORTS = "import gradio; from index.embed import SentenceTransformerEncoder as E; E().window"
LOOK_SECONDS = 3


def answered(browser: Browser, address: str, look: float) -> tuple[float, float]:
    """When the page could be used, by the clock, and how long its first answer took."""
    page = browser.new_page(locale="en-GB")
    page.goto(address)
    button = page.locator(".examples button").first
    button.wait_for()
    usable = time.perf_counter()
    time.sleep(look)
    begun = time.perf_counter()
    button.click()
    page.locator(".turn[data-done]").wait_for()
    took = time.perf_counter() - begun
    page.close()
    return usable, took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    rows: list[tuple[float, ...]] = []
    with sync_playwright() as started:
        path = shutil.which("chromium")
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for _ in range(args.rounds + 1):  # the first warms the disk
            begun = time.perf_counter()
            subprocess.run([sys.executable, "-c", IMPORTS], check=True, capture_output=True)
            imported = time.perf_counter() - begun
            begun = time.perf_counter()
            with chat() as address:
                usable, first = answered(browser, address, 0)
                _, later = answered(browser, address, LOOK_SECONDS)
            rows.append((imported, usable - begun, first, later))
        browser.close()
    imported, usable, first, later = (
        statistics.median(column) for column in zip(*rows[1:], strict=True)
    )
    ratio = statistics.median(row[1] / row[0] for row in rows[1:])
    print(
        f"imports {imported:.1f} s, page usable {usable:.1f} s, {ratio:.2f} times;"
        f" first answer {first:.2f} s, on a page that was looked at {later:.2f} s"
        f" (medians of {args.rounds} rounds, in turn)"
    )


if __name__ == "__main__":
    main()
