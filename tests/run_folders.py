"""Run folders as training and evaluation leave them, and a reader of the page that is made of them."""

import json
from html.parser import HTMLParser

VOID = {"meta", "br", "line", "circle", "use", "path", "stop"}
EVIL = "<script>alert('x')</script>"


class Page(HTMLParser):
    """The page's elements, text and ids; notes an end tag that closes nothing."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.crossed, self.words = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID and (not self.open or self.open.pop() != tag):
            self.crossed.append(tag)

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split()).replace("\N{NO-BREAK SPACE}", " ")


def sample(i, right, loss, answer):
    prompt = [{"role": "user", "content": f"Question {i} {EVIL}"}]
    return {
        "doc_id": i,
        "doc": {"source": f"heldout.json:{i + 1}", "messages": prompt},
        "target": "yes",
        "arguments": [],
        "resps": [[answer]],
        "filtered_resps": [answer],
        "filter": "none",
        "metrics": ["exact_match"],
        "doc_hash": str(i),
        "exact_match": float(right),
        "loss_sum": loss,
        "tokens": 10,
    }


def evaluate(run, label, rows):
    folder = run / "eval" / label
    folder.mkdir(parents=True)
    values = {"alias": "heldout", "exact_match,none": sum(r["exact_match"] for r in rows) / len(rows)}
    results = {"results": {"heldout": values}, "nlpft": {"model": "tiny", "label": label, "adapter": None}}
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "samples_heldout.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))


def train_line(step, loss=2.0):
    figures = {"targets": 300, "tokens": 512, "grad_norm": 1.0, "lr": 1e-4, "seconds": 0.5, "memory_gib": 1.2}
    return json.dumps({"kind": "train", "step": step, "loss": loss, "epoch": 0.1, **figures}) + "\n"


def make_bare(run):
    run.mkdir()
    (run / "config.yaml").write_text("model: tiny\nnote: <b>bold</b>\n")
    return run


def make_run(run):
    """A run with everything in it: of 40 items the base gets 10 right, the adapter the 30 others."""
    make_bare(run)
    metrics = [train_line(s, 2.0 - s / 50) for s in range(1, 31)]
    metrics.insert(20, json.dumps({"kind": "eval", "step": 20, "loss": 1.75, "targets": 900, "best": True}) + "\n")
    (run / "metrics.jsonl").write_text("".join(metrics))
    (run / "environment.json").write_text(json.dumps({"torch": "2.11", "data": {"train": "sha256:ab"}}))
    counts = {
        "rows_read": 1020,
        "kept": 990,
        "repaired": 7,
        "truncated": 3,
        "rejected": 20,
        "tokens": 9000,
        "learnt_tokens": 800,
    }
    counts["reasons"] = {"rejected": {"unknown role": 20}}
    (run / "data.json").write_text(json.dumps({"train": {"folder": "data/train", **counts}}))
    evaluate(run, "base", [sample(i, i < 10, 20.0 + i % 5, f"base {i}") for i in range(40)])
    evaluate(run, "tuned", [sample(i, i >= 10, 15.0 + i % 3, f"tuned {i} {EVIL}") for i in range(40)])
    return run


def choice(i, right):
    """An item of three given answers, of which the first is right."""
    scores = [-1.0 if right else -4.0, -2.0, -3.0]
    names = {30: "thirty"}
    given = [names.get(i, f"{i}"), "forty", "fifty"]
    return {
        "doc_id": i,
        "doc": {"question": f"What is {i}?"},
        "target": "0",
        "arguments": [[f"What is {i}?", f" {text}"] for text in given],
        "resps": [[[score, False]] for score in scores],
        "filtered_resps": [[score, False] for score in scores],
        "filter": "none",
        "metrics": ["acc"],
        "doc_hash": str(i),
        "acc": float(right),
    }
