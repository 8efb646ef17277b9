"""Measures are scikit-learn's, costs put the best lowest, and samples are what `nlpft compare` takes."""

import numpy as np
import pyarrow as pa
import pytest
import tiny_heads
from accelerate import Accelerator
from sklearn import metrics as sklearn_metrics

from nlpft.data.example_batch import batch_of
from nlpft.data.examples import Examples, ExamplesConfig
from nlpft.errors import ConfigError
from nlpft.evaluation import compare, head_scores
from nlpft.evaluation.head_scores import Scored
from nlpft.models import head_forward, heads
from nlpft.types import Layout, Task

DRAW = np.random.default_rng(0)
THREE = Task("single_label_classification", ("a", "b", "c"))
SEVERAL = Task("multi_label_classification", ("a", "b", "c"))
LOGITS, TRUE = DRAW.normal(size=(50, 3)).astype(np.float32), DRAW.integers(0, 3, 50)
ROWS = np.arange(50)


def test_measures_of_one_label_are_scikit_learns():
    found = head_scores.measures(THREE, Scored(LOGITS, TRUE, ROWS))
    said, p = LOGITS.argmax(1), np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    assert found["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(TRUE, said))
    assert found["f1"] == pytest.approx(sklearn_metrics.f1_score(TRUE, said, average="macro"))
    assert found["precision"] == pytest.approx(sklearn_metrics.precision_score(TRUE, said, average="macro"))
    assert found["recall"] == pytest.approx(sklearn_metrics.recall_score(TRUE, said, average="macro"))
    assert found["matthews_correlation"] == pytest.approx(sklearn_metrics.matthews_corrcoef(TRUE, said))
    assert found["roc_auc"] == pytest.approx(sklearn_metrics.roc_auc_score(TRUE, p, multi_class="ovr"), abs=1e-6)
    assert found["loss"] == pytest.approx(sklearn_metrics.log_loss(TRUE, p), rel=1e-5)
    assert set(found) == set(head_scores.NAMES[THREE.kind])


def test_measures_of_several_labels_are_scikit_learns():
    true = DRAW.integers(0, 2, (50, 3)).astype(np.float32)
    found = head_scores.measures(SEVERAL, Scored(LOGITS, true, ROWS))
    said = LOGITS > 0
    assert found["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(true, said))
    assert found["f1"] == pytest.approx(sklearn_metrics.f1_score(true, said, average="macro"))
    assert found["f1_micro"] == pytest.approx(sklearn_metrics.f1_score(true, said, average="micro"))
    assert set(found) == set(head_scores.NAMES[SEVERAL.kind])


def test_measures_of_tags_are_of_spans():
    task = Task("tagging", ("O", "B-x", "I-x"))
    true = np.array([1, 2, 0, 1])
    found = head_scores.measures(task, Scored(np.eye(3, dtype=np.float32)[[1, 2, 0, 0]], true, np.array([0, 0, 0, 2])))
    assert (found["precision"], found["recall"], found["accuracy"]) == (1.0, 0.5, 0.75)
    assert set(found) == set(head_scores.NAMES["tagging"])


def test_cost_is_lower_for_what_is_better():
    good, bad = {"loss": 0.1, "f1": 0.9}, {"loss": 0.5, "f1": 0.2}
    for name in good:
        assert head_scores.cost(name, good) < head_scores.cost(name, bad)
    with pytest.raises(ConfigError, match=r"best 'acuracy'.*did you mean 'accuracy'"):
        head_scores.check("acuracy", THREE)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny_heads.save_bert(tmp_path_factory.mktemp("bert"))


def rows(count=7):
    ids = [[2, *([5 + n] * (1 + n % 5)), 3] for n in range(count)]
    return tiny_heads.table(ids, target=pa.array([n % 3 for n in range(count)], pa.int32()))


def test_outputs_are_in_the_order_of_the_rows_however_they_are_cut(bert):
    model = heads.new_head(str(bert), "float32", THREE)
    model.set_attn_implementation("varlen")
    layout = head_forward.choose(model, batch_of)
    data = Examples(None, layout, table=rows())
    whole, cut = (
        head_scores.outputs(Accelerator(cpu=True), model, data, ExamplesConfig(tokens_per_micro_batch=n))
        for n in (4096, 8)
    )
    assert whole.targets.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert np.allclose(whole.logits, cut.logits, atol=1e-5)
    assert np.ptp(whole.logits, axis=0).min() > 1e-3


def test_two_runs_compare_item_by_item(tmp_path):
    data = Examples(None, Layout(True, "first"), table=rows())
    true = np.array([0, 1, 2, 0, 1, 2, 0])
    for name, said in (("one", true), ("other", np.array([0, 1, 2, 0, 0, 0, 1]))):
        scored = Scored(np.eye(3, dtype=np.float32)[said], true, np.arange(7))
        values = head_scores.write(tmp_path / name, "classification", THREE, scored, data, {"label": name})
    assert values["accuracy"] == pytest.approx(4 / 7)
    found = {c.metric: c for c in compare.compare(tmp_path / "one", tmp_path / "other")}
    assert (found["accuracy"].base, found["accuracy"].other, found["accuracy"].base_only) == (
        1.0,
        pytest.approx(4 / 7),
        3,
    )
    assert found["loss"].difference > 0
