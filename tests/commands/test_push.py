"""`nlpft push`: what it says is what it uploads, privately unless told otherwise; no test speaks to the hub."""

import json
from types import SimpleNamespace

import huggingface_hub
import pytest
import tiny
from adapters import save_adapter
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from nlpft import cli


class Hub:
    """Stands in for the hub's client, and keeps what it was told."""

    def __init__(self, private=True, error=None) -> None:
        self.private, self.error, self.calls, self.files = private, error, [], {}

    def create_repo(self, repo, **settings):
        if self.error:
            raise self.error
        self.calls.append((repo, settings))

    def model_info(self, repo):
        return SimpleNamespace(private=self.private)

    def create_commit(self, repo, operations, commit_message):
        self.files = {one.path_in_repo: one.path_or_fileobj for one in operations}
        self.calls.append((repo, commit_message))
        return SimpleNamespace(commit_url="URL")


@pytest.fixture
def hub(monkeypatch):
    def use(**settings):
        made = Hub(**settings)
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: made)
        return made

    return use


@pytest.fixture
def adapter(tmp_path, tiny_folder):
    folder = save_adapter(tmp_path / "run" / "model", tiny_folder, 0.5)
    (folder.parent / "config.yaml").touch()
    (folder / "optimizer.pt").write_bytes(b"x")
    return folder


def push(*words) -> int:
    return cli.main(["push", *map(str, words)])


def test_the_model_goes_to_a_private_repository_and_nothing_else_does(adapter, hub, capsys):
    used = hub()
    assert push(adapter.parent, "me/mine", "--base", "them/theirs") == 0
    assert used.calls[0] == ("me/mine", {"private": True, "exist_ok": True})
    wanted = {path.name for path in adapter.iterdir()} - {"optimizer.pt"}
    assert used.files.keys() == wanted
    printed = capsys.readouterr().out
    assert all(name in printed for name in wanted)
    assert "me/mine (private): URL" in printed


def test_no_path_of_this_machine_is_uploaded(adapter, tiny_folder, hub):
    used = hub()
    (adapter / "nlpft.json").write_text(json.dumps({"base": str(tiny_folder), "combined_from": {"/home/me/x": 1}}))
    assert push(adapter, "me/mine", "--base", "them/theirs") == 0
    assert json.loads(used.files["adapter_config.json"])["base_model_name_or_path"] == "them/theirs"
    assert json.loads(used.files["nlpft.json"]) == {"base": "them/theirs"}
    texts = [content for content in used.files.values() if isinstance(content, bytes)]
    assert len(texts) == 3
    assert not any(str(tiny_folder).encode() in text for text in texts)
    assert str(tiny_folder) in (adapter / "adapter_config.json").read_text()


CARD = """---
base_model: {base}
tags:
- base_model:adapter:{base}
- lora
---
# mine

An adapter (lora), trained by nlpft from tiny.

nlpft chat runs/mine/model

| base | {base} |
| near it | {base}-2 |
| command | {file}, --data.train, mine |
| unchanged | /and/or https://host/tmp/x yes/no |
"""


def test_a_card_names_base_and_model_as_the_hub_does_and_no_place_of_this_machine(adapter, tiny_folder, tmp_path, hub):
    used = hub()
    (adapter / "README.md").write_text(CARD.format(base=tiny_folder, file=tmp_path / "a" / "sft.py"))
    assert push(adapter, "me/mine", "--base", "them/theirs") == 0
    assert used.files["README.md"].decode() == CARD.format(base="them/theirs", file="sft.py").replace(
        "- base_model:adapter:them/theirs\n", ""
    ).replace("from tiny", "from them/theirs").replace("runs/mine/model", "me/mine").replace(
        "them/theirs-2", f"{tiny_folder.name}-2"
    )


def test_a_base_that_is_on_the_hub_already_stands_in_the_cards_metadata(adapter, hub):
    used = hub()
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": "them/theirs"}))
    (adapter / "README.md").write_text("# mine\n")
    assert push(adapter, "me/mine") == 0
    assert used.files["README.md"] == b"---\nbase_model: them/theirs\n---\n# mine\n"


def test_weights_of_every_kind_go_and_other_binaries_do_not(tmp_path, hub):
    folder = tiny.save_tokenizer(tmp_path / "whole")
    (folder / "config.json").write_text("{}")
    there = ["pytorch_model-00001-of-00001.bin", "adapter_model.bin", "model.gguf", "model.onnx", "model.onnx.data"]
    for name in [*there, "training_args.bin", "optimizer.bin"]:
        (folder / name).write_bytes(b"x")
    used = hub()
    assert push(folder, "me/mine") == 0
    assert set(there) <= used.files.keys()
    assert not {"training_args.bin", "optimizer.bin"} & used.files.keys()


def test_a_folder_without_weights_is_refused(tmp_path, hub, capsys):
    folder = tiny.save_model(tmp_path / "whole")
    (folder / "model.safetensors").rename(folder / "model.pt")
    used = hub()
    assert push(folder, "me/mine") == 2
    assert "holds no weights" in capsys.readouterr().err
    assert used.calls == []


def test_a_modelfile_goes_along_and_names_the_base_as_the_hub_does(adapter, tmp_path, hub):
    used = hub()
    assert cli.main(["export", str(adapter), "--to", "ollama", "--adapter", "-o", str(tmp_path / "out")]) == 0
    assert push(tmp_path / "out", "me/mine", "--base", "them/theirs") == 0
    lines = used.files["Modelfile"].decode().splitlines()
    assert lines[1:3] == ["FROM them/theirs", "ADAPTER ."]
    assert lines[3:] == (tmp_path / "out" / "Modelfile").read_text().splitlines()[2:]


def test_a_file_that_cannot_be_read_is_named(adapter, hub, capsys):
    hub()
    (adapter / "nlpft.json").write_text("{")
    assert push(adapter, "me/mine", "--base", "them/theirs") == 2
    assert "nlpft.json: broken" in capsys.readouterr().err


def test_of_whole_weights_it_is_not_said_where_they_were_merged(tmp_path, hub):
    folder = tiny.save_model(tmp_path / "whole")
    (folder / "nlpft.json").write_text(json.dumps({"template_hash": "abc", "merged_from": "/home/me/run"}))
    used = hub()
    assert push(folder, "me/mine") == 0
    assert json.loads(used.files["nlpft.json"]) == {"template_hash": "abc"}


def test_a_base_that_only_this_machine_knows_is_refused_with_the_remedy(adapter, hub, capsys):
    used = hub()
    assert push(adapter, "me/mine") == 2
    assert "--base owner/name" in capsys.readouterr().err
    assert used.calls == []


def test_a_dry_run_lists_the_files_and_asks_nobody(adapter, monkeypatch, capsys):
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: pytest.fail("asked"))
    assert push(adapter, "me/mine", "--base", "them/theirs", "--dry_run") == 0
    printed = capsys.readouterr().out
    size = (adapter / "adapter_model.safetensors").stat().st_size
    assert f"{size:,} bytes  adapter_model.safetensors" in printed
    assert "would go to me/mine (private); nothing was uploaded" in printed
    assert "optimizer.pt" not in printed


def test_a_public_repository_takes_only_what_is_meant_to_be_public(tmp_path, hub, capsys):
    folder = tiny.save_model(tmp_path / "whole")
    used = hub(private=False)
    assert push(folder, "me/mine") == 2
    assert "add --public" in capsys.readouterr().err
    assert used.files == {}
    assert push(folder, "me/mine", "--public") == 0
    assert "model.safetensors" in used.files
    assert used.calls[-2] == ("me/mine", {"private": False, "exist_ok": True})


def refusal(code):
    return HfHubHTTPError("no", response=SimpleNamespace(status_code=code, headers={}, request=None))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OfflineModeIsEnabled("offline"), "unset HF_HUB_OFFLINE"),
        (RuntimeError("no route"), "no route"),
        (refusal(403), "hf auth login"),
        (refusal(500), "refused (500)"),
    ],
)
def test_a_hub_that_cannot_be_used_is_said_with_what_to_do(tmp_path, hub, error, said, capsys):
    used = hub(error=error)
    assert push(tiny.save_model(tmp_path / "whole"), "me/mine") == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert "nothing was uploaded" in printed
    assert used.files == {}


def test_settings_that_mean_nothing_are_refused(tmp_path, capsys):
    folder = tiny.save_model(tmp_path / "whole")
    for words, said in ((["mine"], "owner/name"), (["me/mine", "--base", "a/b"], "leave it out")):
        assert push(folder, *words) == 2
        assert said in capsys.readouterr().err
