"""Fixtures that several test files share. No test reaches for the Hugging Face hub."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import tiny


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A model of two blocks with its tokenizer, as `from_pretrained` reads it."""
    return tiny.save_model(tmp_path_factory.mktemp("tiny"))
