"""A small encoder, data with labels, and a laboratory for them, made once for all tests of strategies."""

import laboratories
import pytest
import tiny_heads


@pytest.fixture(scope="session")
def bert(tmp_path_factory):
    return tiny_heads.save_bert(tmp_path_factory.mktemp("bert"), dropout=0.1)


@pytest.fixture(scope="session")
def labels(tmp_path_factory, bert):
    return tiny_heads.classified(tmp_path_factory.mktemp("labels"), bert, train=40, held_out=12)


@pytest.fixture(scope="session")
def made(bert, labels):
    """The laboratory and the rows of the test; 20 steps' worth of 8 rows."""
    return laboratories.laboratory(bert, labels, sources=[labels / "train"], unlabelled=labels / "eval")
