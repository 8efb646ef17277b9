"""Metrics of a whole corpus are compared with an interval from what each item adds to them, or else told as values."""

import json
import random

import numpy as np
import pytest
import sacrebleu
from run_folders import Page, evaluate, make_bare, sample

from nlpft import cli, plugins
from nlpft.evaluation import answer_metrics, compare, items, statistics, tables
from nlpft.evaluation.compare import Settings
from nlpft.evaluation.report import card, write

WORDS = ["a", "man", "is", "on", "the", "roof", "pulling", "up", "ripped", "shingles", "and", "laughing", "loudly"]
TAGS = ["O", "B-PER", "I-PER", "B-LOC"]
QUICK = Settings(resamples=2000)


def texts(seed, size=30):
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(4, 9))) for _ in range(size)]


def words_of(seed, names, size=40):
    rng = random.Random(seed)
    return [rng.choice(names) for _ in range(size)]


def nearly(references, seed, share):
    """The references, in some of which words are others."""
    rng = random.Random(seed)
    return [" ".join(rng.choice(WORDS) if rng.random() < share else w for w in text.split()) for text in references]


REFERENCES = texts(1)
OF = {"text": (texts(2), REFERENCES), "label": (words_of(1, "abcx"), words_of(2, "abc"))}
OF["tags"] = tuple([" ".join(words_of(seed + i, TAGS, 1 + i % 6)) for i in range(30)] for seed in (0, 1000))


def corpus_metrics():
    return [n for n in plugins.names("metrics") if hasattr(plugins.load("metrics", n), "counts")]


@pytest.mark.parametrize("name", corpus_metrics())
def test_what_the_rows_add_gives_the_metric_of_them_together(name):
    module = plugins.load("metrics", name)
    said, true, options, _ = answer_metrics.READ[module.KIND](*OF[module.KIND])
    counts = module.counts(said, true, **options)
    taken = answer_metrics._taken(module, options)
    found = module.Metric().compute(predictions=said, references=true, **taken)
    for key in module.VALUES:
        assert module.score(counts.sum(0))[key] == pytest.approx(found[key], rel=1e-9)
        assert found[key] != 0
    some = np.arange(0, len(true), 3)
    fewer = module.Metric().compute(predictions=[said[i] for i in some], references=[true[i] for i in some], **taken)
    both = module.score(np.stack([counts.sum(0), counts[some].sum(0)]))
    assert [both[key][1] for key in module.VALUES] == pytest.approx([fewer[key] for key in module.VALUES], rel=1e-9)


def test_every_metric_of_answers_that_is_no_mean_over_rows_has_counts():
    assert corpus_metrics() == ["chrf", "f1", "matthews_correlation", "precision", "recall", "sacrebleu", "seqeval"]


def answered(run, label, answers, references=REFERENCES, **reported):
    """An evaluation in which `answers` were written, and scores of them all are reported."""
    rows = [
        sample(i, False, 20.0 + (label != "base"), answer) | {"target": reference}
        for i, (answer, reference) in enumerate(zip(answers, references, strict=True))
    ]
    evaluate(run, label, rows)
    path = run / "eval" / label / "results.json"
    said = json.loads(path.read_text())
    said["results"]["heldout"] |= {f"{name},none": value for name, value in reported.items()}
    path.write_text(json.dumps(said))
    return items.read(run / "eval" / label)


@pytest.fixture
def run(tmp_path):
    return make_bare(tmp_path / "run")


def pair(run, after, **more):
    before = nearly(REFERENCES, 3, 0.6)
    return [
        answered(run, label, texts, chrf=sacrebleu.corpus_chrf(texts, [REFERENCES]).score, **more)
        for label, texts in (("base", before), ("tuned", after))
    ]


def chrf_of(found):
    return next(c for c in found if c.metric == "chrf")


def test_chrf_is_compared_over_the_same_items(run):
    base, tuned = pair(run, nearly(REFERENCES, 4, 0.2))
    c = chrf_of(compare.compare(base, tuned, QUICK))
    answers = [[row["filtered_resps"][0] for row in e.samples["heldout", "none"].values()] for e in (base, tuned)]
    scores = [sacrebleu.corpus_chrf(texts, [REFERENCES]).score for texts in answers]
    assert (c.base, c.other, c.difference) == pytest.approx((*scores, scores[1] - scores[0]))
    assert (c.verdict, c.test, c.n, c.binary) == ("better", "swaps", 30, False)
    rng = np.random.default_rng(1)
    drawn = []
    for some in rng.integers(0, 30, (300, 30)):
        ends = [[texts[i] for i in some] for texts in (*answers, REFERENCES)]
        drawn.append(sacrebleu.corpus_chrf(ends[1], [ends[2]]).score - sacrebleu.corpus_chrf(ends[0], [ends[2]]).score)
    assert (c.low, c.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.5 * np.std(drawn))
    assert c.error == pytest.approx(np.std(drawn), rel=0.15)


def test_equal_answers_are_no_difference_and_few_others_are_none_shown(run):
    after = nearly(REFERENCES, 3, 0.6)
    after[:3] = REFERENCES[:3]
    c = chrf_of(compare.compare(*pair(run, after), QUICK))
    assert c.p_value == 2 / 2**3  # three answers can change places in eight ways
    assert c.low <= 0 < c.difference
    assert (c.verdict, c.loss_bound, c.other_only, c.base_only) == ("no difference shown", None, 3, 0)


def test_swaps_are_sign_flips_where_a_metric_is_a_mean():
    rng = np.random.default_rng(2)
    base, other = rng.random((40, 1)), rng.random((40, 1)) + 0.1

    def mean(sums):
        return sums[..., 0] / 40

    flipped = statistics.sign_flip((other - base)[:, 0], resamples=20_000)
    assert statistics.swap(base, other, mean, resamples=20_000) == pytest.approx(flipped, abs=0.015)
    assert statistics.swap(base[:9], other[:9], mean) == statistics.sign_flip((other - base)[:9, 0])
    drawn = statistics.bootstrap_sums(base, other, mean, resamples=20_000)
    assert drawn.std() == pytest.approx((other - base).std() / 40**0.5, rel=0.03)


def test_a_metric_that_cannot_be_computed_again_is_told_as_values(run):
    base, tuned = pair(run, nearly(REFERENCES, 4, 0.2), sacrebleu=12.0, my_score=3.0)
    assert {c.metric for c in compare.compare(base, tuned, QUICK)} == {"exact_match", "loss", "chrf"}
    assert compare.notes(base, tuned) == [
        "heldout sacrebleu: not compared, it is no mean over items: 12 for base, 12 for tuned",
        "heldout my_score: not compared, it is no mean over items: 3 for base, 3 for tuned",
    ]


def test_corpus_metrics_stand_on_page_card_and_in_tables(run):
    pair(run, nearly(REFERENCES, 4, 0.2), my_score=3.0)
    found = write.read([run], QUICK)
    text = Page(write.write_report(found, run / "a.html").read_text(encoding="utf-8")).text
    assert "heldout chrf" in text[: text.index("Evaluation")]
    assert "my_score: not compared, it is no mean over items: 3 for base, 3 for tuned" in text
    assert any(
        line.startswith("| heldout chrf |") for line in tables.comparisons(found[0].others[0].comparisons, "a", "b")
    )
    assert "| heldout chrf |" in card.render(found[0])


def test_f1_of_labels_is_compared_over_the_same_items(run):
    references = words_of(2, "abc", 30)
    values = {}
    for label, seed in (("base", 5), ("tuned", 6)):
        said = words_of(seed, "abcx", 30) if label == "base" else [*references[:25], *words_of(seed, "abcx", 5)]
        found = answer_metrics.compute({"f1": plugins.load("metrics", "f1")}, said, references)
        values[label] = answered(run, label, said, references, **found.values)
    c = next(c for c in compare.compare(values["base"], values["tuned"], QUICK) if c.metric == "f1")
    assert c.other == values["tuned"].results["results"]["heldout"]["f1,none"]
    assert c.verdict == "better"
    gained, lost = compare.flips(values["base"], values["tuned"], "heldout", "f1")
    assert (len(gained), len(lost)) == (c.other_only, c.base_only)
    right = [row["target"] for row, _ in gained] == [after["filtered_resps"][0] for _, after in gained]
    assert right
    assert len(gained) > 10


def test_items_without_a_score_of_their_own_are_shown_without_one(run, capsys):
    for label, answers in (("base", nearly(REFERENCES, 3, 0.6)), ("tuned", nearly(REFERENCES, 4, 0.2))):
        score = sacrebleu.corpus_chrf(answers, [REFERENCES]).score
        folder = answered(run, label, answers, chrf=score).folder
        path = folder / "samples_heldout.jsonl"
        rows = [json.loads(line) for line in path.open()]
        bare = [{k: v for k, v in row.items() if k not in ("loss_sum", "tokens")} | {"metrics": []} for row in rows]
        path.write_text("".join(json.dumps(row) + "\n" for row in bare))
    folders = [str(run / "eval" / label) for label in ("base", "tuned")]
    assert cli.main(["compare", *folders, "--flips", "1"]) == 0
    assert "heldout chrf: gained, 1 of" in capsys.readouterr().out
