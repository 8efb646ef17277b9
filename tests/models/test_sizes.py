"""Parameters by block: every one is counted once, and where it belongs."""

import tiny
from peft import LoraConfig, get_peft_model

from nlpft.models.sizes import by_block


def test_every_parameter_is_in_one_block():
    model = tiny.make_model()
    found = by_block(model)
    assert list(found) == ["embeddings", "1", "2", "3", "head"]
    assert found["embeddings"] == {"trains": 400 * 32, "all": 400 * 32}
    assert found["head"]["all"] == 32  # the last norm; the head itself is tied to the embeddings
    assert sum(block["all"] for block in found.values()) == sum(p.numel() for p in model.parameters())


def test_only_what_trains_counts_as_training():
    model = get_peft_model(tiny.make_model(), LoraConfig(r=2, target_modules=["q_proj"], layers_to_transform=[1]))
    found = by_block(model)
    assert {name: block["trains"] for name, block in found.items()} == {
        "embeddings": 0,
        "1": 0,
        "2": 2 * (32 + 32),
        "3": 0,
        "head": 0,
    }
