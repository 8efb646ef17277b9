"""The pages in a real browser: nothing is cut off or runs over, on a telephone or a wide screen, light or dark; no network.

Skips only where there is no browser: neither Chromium's command nor one of playwright's own.
"""

import json
import shutil

import pytest
from run_folders import choice, evaluate, make_run, sample

from nlpft.evaluation.compare import Settings
from nlpft.evaluation.report import write

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser: pip install playwright")
LONG = "unbroken" * 60
WIDER = """() => [...document.querySelectorAll("body *")].filter(e => {
    const box = e.getBoundingClientRect(), head = e.closest("thead");
    const shown = box.width && !(head && getComputedStyle(head).position == "absolute");
    return shown && (box.right > innerWidth + 0.5 || box.left < -0.5);
}).map(e => e.tagName + " " + e.textContent.slice(0, 60))"""
CUT = """() => [...document.querySelectorAll("figure svg text")].filter(e => {
    const box = e.getBoundingClientRect(), all = e.closest("svg").getBoundingClientRect();
    return box.left < all.left - 1 || box.right > all.right + 1 || box.top < all.top - 1 || box.bottom > all.bottom + 1;
}).map(e => e.textContent)"""
OVERLAP = """() => [...document.querySelectorAll("td, th, dt, dd, p, summary, figcaption")].filter(
    e => e.scrollWidth > e.clientWidth + 1 && e.clientWidth && getComputedStyle(e).display != "inline"
).map(e => e.tagName + " " + e.textContent.slice(0, 60))"""
INKS = """() => [...document.querySelectorAll("figure svg text")].map(e => getComputedStyle(e).fill)"""


@pytest.fixture(scope="module")
def browser():
    command = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_api.sync_playwright() as play:
        try:
            started = play.chromium.launch(executable_path=command, args=["--no-sandbox"])
        except sync_api.Error as error:
            pytest.skip(f"no browser starts: {str(error).splitlines()[0]}; apt-get install chromium")
        yield started
        started.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The page of one run with everything in it, long words and names besides, and that of two."""
    folder = tmp_path_factory.mktemp("pages")
    runs = [make_run(folder / name) for name in ("one", f"a_run_of_another_rate_{LONG[:80]}")]
    (runs[1] / "config.yaml").write_text(f"model: tiny\nnote: {LONG}\noptim:\n  lr: 1.0\n")
    evaluate(runs[0], f"step_{LONG[:80]}", [sample(i, i % 3 > 0, 16.0 + i % 7, LONG) for i in range(40)])
    for run in runs:
        (run / "parameters.json").write_text(
            json.dumps({str(i): {"trains": 10**9 + i, "all": 10**10} for i in range(1, 81)})
        )
        for path in (run / "eval").iterdir():
            name = f"samples_a_benchmark_of_a_name_that_is_long_{LONG[:60]}.jsonl"
            rows = [choice(i, (i + len(path.name)) % 3 > 0) for i in range(40)]
            (path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = write.read(runs, Settings(resamples=1000))
    return [write.write_report(found[:1], folder / "one.html"), write.write_report(found, folder / "two.html")]


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (390, "dark"), (1200, "light")])
def test_nothing_runs_over_and_nothing_is_fetched(browser, pages, number, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(pages[number].as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert page.evaluate(WIDER) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(OVERLAP) == []
    assert page.evaluate(CUT) == []
    assert set(page.evaluate(INKS)) == {"rgb(155, 166, 169)" if scheme == "dark" else "rgb(91, 101, 105)"}
    assert (said, asked) == ([], [pages[number].as_uri()])
    context.close()
