"""The page of a dataset: self-contained, escaped, complete, readable on a phone, and deaf to scripts in the data."""

import html as markup
import re
import shutil
import subprocess

import datasets
import on_disk
import pytest
from on_disk import Chat, refused

from nlpft import cli
from nlpft.commands import _inspect_page
from nlpft.data import store

EVIL = "<script>document.title = 'hacked'</script><img src=x onerror=\"document.title = 'hacked'\">{{ 7 * 7 }}"
ROWS = [
    Chat("d/rows.json:1", ("naïve 🙂 日本\n  bye \x1b[31m\u202e", f"{EVIL}</p></article>")),
    Chat("d/rows.json:2", ("שלום עולם", "مرحبا بالعالم")),
    *(Chat(f"d/rows.json:{n}", ("a question", f"answer {n}")) for n in range(3, 9)),
    Chat("d/<b>.json:1", ("one", "two", "three", "four"), ("two turns of one role merged", "BOM")),
    Chat("d/rows.json:10", ("cut", "off"), ("truncated: 7 tokens lost",)),
    Chat("d/rows.json:11", ("a question", "answer 3")),
]
REJECTED = [
    refused("d/rows.json:12", "no answer", f"detail {EVIL}", {"conversations": [EVIL, "\ud800\x00"]}),
    refused("d/rows.json:13", "no answer"),
    refused("d/rows.json:14", "not JSON", "", f"{EVIL}{'x' * 5000}"),
]
VOID = {"meta", "path", "use"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, tiny_folder):
    return on_disk.write(tmp_path_factory.mktemp("page") / "out", ROWS, REJECTED, tiny_folder)


@pytest.fixture(scope="module")
def page(dataset):
    return made(dataset)


def made(dataset, *words) -> str:
    target = dataset.parent / "page.html"
    assert cli.main(["inspect", str(dataset), "--html", str(target), *map(str, words)]) == 0
    return target.read_text(encoding="utf-8")


def articles(page: str) -> list[str]:
    return re.findall(r"<article>.*?</article>", page, re.DOTALL)


def text(part: str) -> str:
    """What a reader sees of a part of the page."""
    return markup.unescape(re.sub(r"<[^>]+>", "", part))


def words(part: str) -> str:
    return " ".join(text(re.sub(r"(?=<)", " ", part)).split())


def test_page_needs_nothing_outside_itself(page):
    assert not re.search(
        r"""(?:src|href|action)\s*=\s*["']?\s*(?:https?:)?//|url\(\s*["']?(?:https?:)?//|@import""", page
    )
    assert {"link", "iframe", "object", "img"}.isdisjoint(re.findall(r"<(\w+)", page))
    assert re.search(r'http-equiv="Content-Security-Policy" content="default-src \'none\';', page)


def test_what_stands_in_the_data_is_escaped(page):
    assert page.count("<script") == 1  # our own
    assert "<b>" not in page
    assert f"{EVIL}</p></article>" in text(articles(page)[0])
    assert "{{ 7 * 7 }}" in page
    assert [c for c in page if not c.isprintable() and c not in "\n\N{NO-BREAK SPACE}"] == []


def test_a_rows_tokens_join_to_its_text_and_say_position_and_id(page, dataset):
    row = re.search(r'<p class="tokens">(.*?)</p>', articles(page)[0], re.DOTALL).group(1)
    expected = (
        "<|im_start|>user\nnaïve 🙂 日本\n  bye \\x1b[31m\\u202e<|im_end|>\n"
        f"<|im_start|>assistant\n{EVIL}</p></article><|im_end|>\n"
    )
    assert text(row) == expected
    ids = store.read(dataset).column("input_ids")[0].as_py()
    told = re.findall(r'title="position (\d+)(?:–(\d+))?, id ([\d +]+)', row)
    assert [int(i) for _, _, found in told for i in found.split(" + ")] == ids
    assert [int(first) for first, _, _ in told][-1] == len(ids) - 1
    assert re.search(r'title="position \d+–\d+, id \d+ \+ \d+ \+ \d+ \+ \d+">🙂</span>', row)


def test_learnt_and_special_tokens_are_marked(page):
    row = articles(page)[2]
    assert "".join(re.findall(r'<span class="s?l"[^>]*>(.*?)</span>', row)) == "answer 3&lt;|im_end|&gt;"
    assert re.findall(r'<span class="s"[^>]*>(.*?)</span>', row)[:2] == ["&lt;|im_start|&gt;", "&lt;|im_end|&gt;"]


def test_the_ledger_tells_what_became_of_every_row_and_why(page):
    said = words(page)
    assert "all 14 9 1 1 3 " in said
    assert "d/&lt;b&gt;.json" in page
    assert "add up to the rows read. Truncation took 7 tokens." in said
    assert "repaired two turns of one role merged 1 d/<b>.json:1" in said
    assert "truncated truncated 1 d/rows.json:10" in said
    assert "rejected no answer 2 d/rows.json:12 , d/rows.json:13 mend it" in said


def test_a_ledger_that_does_not_add_up_is_pointed_out(tmp_path, tiny_folder):
    folder = on_disk.write(tmp_path / "out", ROWS[2:4], [], tiny_folder)
    ledger = folder / "ledger.json"
    ledger.write_text(ledger.read_text().replace('"rows_read": 2', '"rows_read": 5'))
    assert "3 of the rows read are unaccounted for" in words(made(folder))


def test_a_split_says_that_its_ledger_is_that_of_all_splits(tmp_path, tiny_folder, page):
    on_disk.write(tmp_path / "train", ROWS[2:4], [], tiny_folder)
    store.write_splits(tmp_path, ["train"], {"fingerprint": "f"})
    told = "This dataset is one split of a conversion; the counts are those of all its splits."
    assert told in words(made(tmp_path / "train"))
    assert told not in words(page)


def test_first_rows_are_shown_and_one_of_each_repair_and_rejection(page):
    places = [words(re.search("<h3>(.*?)</h3>", a, re.DOTALL).group(1)).split()[0] for a in articles(page)]
    assert places[:5] == [f"d/rows.json:{n}" for n in range(1, 6)]
    assert places[5:] == ["d/<b>.json:1", "d/rows.json:10", "d/rows.json:12", "d/rows.json:14"]
    assert "two turns of one role merged BOM" in words(articles(page)[5])


def test_a_rejected_row_is_shown_clipped_with_reason_and_remedy(page):
    first, second = (words(a) for a in articles(page)[-2:])
    assert first.startswith(f"d/rows.json:12 no answer detail {EVIL}; mend it byte 120, id id-7 {{")
    assert r"\ud800\u0000" in first
    assert "more characters]" in second


def test_statistics_are_drawn_and_told(page):
    said = words(page)
    assert len(re.findall("<svg", page)) == 3
    assert 'aria-label="Rows by answers (runs of learnt tokens): 1: 10, 2: 1"' in page
    assert "Tokens by role user 330 assistant 220 template 110" in said
    assert "Special tokens <|im_start|> 24 <|im_end|> 24" in said
    assert re.search(r"11 rows looked at\) Latin 10 Arabic 1 ", said)
    assert "1 row is an exact copy of an earlier one. d/rows.json:3 = d/rows.json:11" in said


def test_one_place_is_shown_by_itself(dataset):
    kept, refused = (articles(made(dataset, "--source", f"rows.json:{n}")) for n in (10, 13))
    assert [words(a).split()[0] for a in kept + refused] == ["d/rows.json:10", "d/rows.json:13"]


def test_a_long_row_shows_its_beginning_and_its_end(tmp_path, tiny_folder, monkeypatch):
    monkeypatch.setattr(_inspect_page, "HEAD", 10)
    monkeypatch.setattr(_inspect_page, "TAIL", 4)
    folder = on_disk.write(tmp_path / "out", [Chat("a.json:1", ("q", "abc " * 50)), ROWS[2]], [], tiny_folder)
    row = articles(made(folder))[0]
    ids = store.read(folder).column("input_ids")[0].as_py()
    told = re.findall(r'title="position (\d+), id (\d+)', row)
    assert [int(at) for at, _ in told] == [*range(10), *range(len(ids) - 4, len(ids))]
    assert [int(token) for _, token in told] == ids[:10] + ids[-4:]
    assert f"{len(ids) - 14} tokens left out; nlpft inspect {folder} --source a.json:1 shows all" in words(row)


def test_markup_is_well_formed_and_ids_are_unique(page):
    body = re.sub(r"<!doctype html>|<style>.*?</style>|<script>.*?</script>|<!--.*?-->", "", page, flags=re.DOTALL)
    opened = []
    for end, name, alone in re.findall(r"<(/?)([\w:]+)(?:\s[^>]*?)?(/?)>", body):
        if end:
            assert opened.pop() == name
        elif not alone and name not in VOID:
            opened.append(name)
    assert opened == []
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_same_dataset_gives_the_same_page(dataset):
    assert made(dataset) == made(dataset)


def test_a_dataset_of_another_program_gets_a_page(tmp_path, tiny_folder):
    rows = [{"input_ids": [1, 282, 67, 2], "labels": [-100, -100, 67, 2]}]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "foreign")
    said = words(made(tmp_path / "foreign", "--model", tiny_folder))
    assert "No ledger.json lies beside this dataset" in said
    assert "row 1 4 tokens, 2 learnt" in said
    assert "it was not written by nlpft" in said


def test_a_page_that_cannot_be_written_is_an_error(dataset, tmp_path, capsys):
    assert cli.main(["inspect", str(dataset), "--html", str(tmp_path / "no" / "page.html")]) == 2
    assert "page.html: cannot be written" in capsys.readouterr().err


def opened(page: str, folder, *words) -> str:
    """The page's markup after Chromium has shown it."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("no Chromium here to open the page in")
    (folder / "open.html").write_text(page, encoding="utf-8")
    quiet = "--disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *quiet.split(), *words]
    command += [f"--user-data-dir={folder / 'profile'}", "--dump-dom", (folder / "open.html").as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def test_a_browser_runs_our_script_and_none_of_the_data(page, tmp_path):
    forged = page.replace(
        "</header>", f"</header>{EVIL}", 1
    )  # as if escaping had failed: the policy holds it all the same
    assert "<title>out: dataset</title>" in opened(forged, tmp_path)
    assert "<title>hacked</title>" in opened(unguarded(forged), tmp_path)


def test_a_token_that_is_tapped_tells_of_itself(page, tmp_path):
    tap = "<script>document.querySelector('.tokens .l').click(); document.title = document.title</script>"
    shown = opened(unguarded(page).replace("</body>", f"{tap}</body>"), tmp_path)
    assert re.search(r'<p id="token" role="status">position \d+, id \d+, learnt</p>', shown)


@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_sticks_out_at_the_side(page, tmp_path, width):
    seen = "[document.documentElement.scrollWidth, innerWidth, getComputedStyle(document.querySelector('.files tr')).display]"
    inner = unguarded(page).replace("</body>", f"<script>parent.document.title = {seen}</script></body>")
    # A frame, because Chromium's own window is never as narrow as a phone.
    frame = f'<iframe style="width: {width}px; border: 0" srcdoc="{markup.escape(inner)}"></iframe>'
    display = "grid" if width == 360 else "table-row"
    assert f"<title>{width},{width},{display}</title>" in opened(frame, tmp_path)


def unguarded(page: str) -> str:
    """The page without its policy, so that a test may run a script in it."""
    return re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
