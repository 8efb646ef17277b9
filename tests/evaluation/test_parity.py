"""SmolLM2 on real benchmarks, where NLPFT_CORPORA names them: the scores are HFLM's. scripts/parity_eval.py does more of them."""

import os
from pathlib import Path

import pytest

from nlpft.models.load import load_model, load_tokenizer

SCRIPTS = Path(__file__).parents[2] / "scripts"
LIMITS = {"hellaswag": 3, "piqa": 5, "sciq": 4, "lambada": 6, "mmlu_anatomy": 2, "blimp_anaphor_gender_agreement": 8}

pytestmark = pytest.mark.skipif(
    "NLPFT_CORPORA" not in os.environ, reason="set NLPFT_CORPORA to a folder of real corpora (see CONTRIBUTING)"
)


@pytest.fixture(scope="module")
def model(smollm2):
    return load_model(str(smollm2), "float32").eval(), load_tokenizer(str(smollm2))


@pytest.mark.parametrize("name", LIMITS)
def test_scores_are_hflms(model, name, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    import parity_eval
    from bench import benchmarks

    task = benchmarks.tasks(Path(os.environ["NLPFT_CORPORA"]))[name]
    found = parity_eval.run(*model, task, LIMITS[name], batch_size=4)
    assert found["items"] == LIMITS[name]
    assert found["equal"], found
    assert 0 < found["apart"] < 1e-3
