"""Names -> files: each file once, in a fixed order, with its kind; what stands for nothing is named."""

import gzip
import io
import json
import os
import sys
import threading
from types import SimpleNamespace

import huggingface_hub
import pytest

from nlpft.data.read import read
from nlpft.data.sources import find, fingerprint, source
from nlpft.errors import DataError

ROW = '{"a": 1}\n'


def make(folder, *names, text=ROW):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def names(found):
    return [s.name for s in found]


def test_a_folder_stands_for_its_data_files_sorted_and_below_it(tmp_path):
    make(
        tmp_path,
        "b.json",
        "a/z.jsonl",
        "a/c.jsonl.gz",
        "c.TXT",
        "README.md",
        "x.py",
        ".cache/h.json",
        "dataset_infos.json",
    )
    (tmp_path / "a/c.jsonl.gz").write_bytes(gzip.compress(ROW.encode()))
    found = find([str(tmp_path)])
    assert names(found) == [f"{tmp_path}/{name}" for name in ("a/c.jsonl.gz", "a/z.jsonl", "b.json", "c.TXT")]
    assert [s.compression for s in found] == ["gz", "", "", ""]


def test_patterns_match_sorted_and_each_file_counts_once(tmp_path, monkeypatch):
    monkeypatch.chdir(make(tmp_path, "b.json", "a.json", "sub/c.json", "[x].json"))
    assert names(find(["b.json", "*.json", "**/*.json", "./a.json"])) == ["b.json", "[x].json", "a.json", "sub/c.json"]
    assert names(find(["[x].json"])) == ["[x].json"]


@pytest.mark.parametrize(
    ("name", "text", "format", "kind"),
    [
        ("x.json", '[{"a": 1}]', "auto", "array"),
        ("x.txt", '[{"a": 1},\n{"a": 2}]', "auto", "array"),
        ("x.json", ROW * 2, "auto", "lines"),
        ("x.csv", ROW * 2, "auto", "lines"),
        ("x.jsonl", '["q", "a"]\n["q", "a"]\n', "auto", "lines"),
        ("x.csv", "a,b\n1,2\n", "auto", "csv"),
        ("x.tsv", "[a]\tb\n{1\t2\n", "auto", "tsv"),
        ("x.txt", "Some words\n", "auto", "text"),
        ("x.md", "[link] and {more}\n", "auto", "text"),
        ("x.txt", "{not json}\n", "auto", "text"),
        ("x.txt", "<b>markup</b>\n", "auto", "text"),
        ("x.rst", "Some words\n", "text", "text"),
        ("x.jsonl", '{"text": "words"}\n', "text", "lines"),
    ],
)
def test_a_files_kind_is_told_by_its_content_first_then_by_its_ending(tmp_path, name, text, format, kind):
    make(tmp_path, name, text=text)
    assert source(tmp_path / name, format=format).kind == kind


def test_a_long_first_line_does_not_hide_what_a_file_is(tmp_path):
    rows = [{"a": "x" * 5_000_000}, {"a": "y"}]
    make(tmp_path, "x.jsonl", text="\n".join(map(json.dumps, rows)))
    assert [r.data for r in read(tmp_path / "x.jsonl")] == rows


def test_standard_input_is_spooled_so_that_it_can_be_read_again(monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(ROW.encode() * 3)))
    (found,) = find(["-"])
    assert found.name == "stdin"
    for _ in range(2):
        assert [r.source for r in read(found)] == ["stdin:1", "stdin:2", "stdin:3"]
    assert found.path.stat().st_size == len(ROW) * 3


def test_standard_input_named_twice_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(ROW.encode())))
    with pytest.raises(DataError, match="stdin: named twice, but it can be read only once"):
        find(["-", "-"])


def test_a_pipe_is_spooled_so_that_it_can_be_read_again_and_keeps_its_name(tmp_path):
    pipe = tmp_path / "rows.csv"  # its ending tells the kind
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=["a,b\n1,2\n"], daemon=True)
    writer.start()
    (found,) = find([str(pipe)])
    writer.join()
    assert (found.name, found.kind) == (str(pipe), "csv")
    for _ in range(2):
        assert [(r.data, r.source) for r in read(found)] == [({"a": "1", "b": "2"}, f"{pipe}:2")]


def test_a_pipe_named_twice_is_refused_before_it_is_waited_for(tmp_path):
    pipe = tmp_path / "rows.jsonl"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_text, args=[ROW], daemon=True).start()
    with pytest.raises(DataError, match=r"rows\.jsonl: named twice"):
        find([str(pipe), str(pipe)])


def test_a_descriptor_of_the_shell_is_read_as_a_file(tmp_path):
    reader, writer = os.pipe()
    os.write(writer, ROW.encode() * 2)
    os.close(writer)
    (found,) = find([f"/dev/fd/{reader}"])
    os.close(reader)
    assert len(list(read(found))) == len(list(read(found))) == 2


def test_a_packed_input_cut_off_in_its_first_bytes_is_named_as_the_user_wrote_it(monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(gzip.compress(ROW.encode())[:10])))
    with pytest.raises(DataError, match=r"^stdin: the compressed data end too early"):
        find(["-"])


def test_a_fingerprint_stands_for_the_bytes_not_the_name(tmp_path):
    make(tmp_path, "a.json", "b.json")
    make(tmp_path, "c.json", text=ROW + " ")
    a, b, c = (fingerprint(source(tmp_path / f"{name}.json")) for name in "abc")
    assert a == b != c
    assert len(a) == 32


def test_a_hub_dataset_stands_for_its_data_files(tmp_path, monkeypatch):
    make(tmp_path, "data/train.jsonl", "README.md")
    asked = []

    def stand_in(name, **options):
        asked.append((name, options["repo_type"]))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", stand_in)
    (found,) = find(["owner/name"])
    assert asked == [("owner/name", "dataset")]
    assert [r.source for r in read(found)] == ["owner/name/data/train.jsonl:1"]


def test_without_a_network_a_hub_dataset_is_an_error_that_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DataError, match=r"owner/no-such-set: no such file, and the hub cannot be reached"):
        find(["owner/no-such-set"])


@pytest.mark.parametrize("name", ["gone.json", "data/gone.jsonl", "here/gone", "a/b/c"])
def test_a_missing_file_is_no_hub_dataset(tmp_path, monkeypatch, name):
    monkeypatch.chdir(make(tmp_path, "here/x.json"))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: pytest.fail("asked the hub"))
    with pytest.raises(DataError, match=f"{name}: no such file"):
        find([name])


def test_a_pattern_and_a_folder_without_data_are_named(tmp_path):
    with pytest.raises(DataError, match=r"no\*\.json: no file matches"):
        find([f"{tmp_path}/no*.json"])
    make(tmp_path, "README.md", "state.json.bak")
    with pytest.raises(DataError, match=r"no data files in this folder \(looked for .*\.jsonl"):
        find([str(tmp_path)])


def test_a_saved_dataset_is_told_from_a_folder_of_files(tmp_path):
    make(tmp_path, "state.json", "dataset_info.json", "data-00000-of-00001.arrow")
    with pytest.raises(DataError, match=r"saved dataset.*to_parquet"):
        find([str(tmp_path)])


@pytest.mark.parametrize("named", ["saved", "saved/train"])
def test_a_dataset_that_nlpft_has_made_is_told_from_a_folder_of_files(tmp_path, named):
    make(tmp_path / "saved", "nlpft.json", "ledger.json", "rejected.jsonl", "dataset_dict.json", "train/nlpft.json")
    with pytest.raises(DataError, match=r"saved dataset: name the files that it was made from"):
        find([str(tmp_path / named)])


def test_a_folder_does_not_stand_for_the_datasets_in_it(tmp_path):
    make(tmp_path, "rows.json", "sub/rows.json", "state.json")
    make(tmp_path / "ours", "nlpft.json", "ledger.json", "rejected.jsonl", "train/data.json")
    make(tmp_path / "sub/theirs", "state.json", "dataset_info.json", "rows.jsonl")
    make(tmp_path / ".ours.partial", "rows.jsonl")
    assert names(find([str(tmp_path)])) == [
        f"{tmp_path}/{name}" for name in ("rows.json", "state.json", "sub/rows.json")
    ]


def test_a_folder_stands_for_exported_conversations_without_what_lies_beside_them(tmp_path):
    make(tmp_path, "a.jsonl", "a.jsonl.ledger.json", "a.jsonl.rejected.jsonl", "b.rejected.jsonl")
    assert names(find([str(tmp_path)])) == [f"{tmp_path}/{name}" for name in ("a.jsonl", "b.rejected.jsonl")]


def test_a_folder_below_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    make(tmp_path, "a.json", "closed/b.json")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"closed: cannot be read: Permission denied; check"):
        find([str(tmp_path)])


def test_a_broken_link_in_a_folder_is_named_and_a_pipe_in_it_is_not_waited_for(tmp_path):
    make(tmp_path, "a.json")
    os.mkfifo(tmp_path / "pipe.json")
    assert names(find([str(tmp_path)])) == [f"{tmp_path}/a.json"]
    (tmp_path / "b.json").symlink_to(tmp_path / "gone")
    with pytest.raises(DataError, match=r"b\.json: no such file"):
        find([str(tmp_path)])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named_by_the_system(tmp_path):
    make(tmp_path, "x.json")
    (tmp_path / "x.json").chmod(0)
    with pytest.raises(DataError, match=r"x\.json: cannot be read: Permission denied; check"):
        find([str(tmp_path / "x.json")])


def test_a_file_without_permission_is_named(tmp_path, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    make(tmp_path, "x.json")
    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(DataError, match=r"x\.json: cannot be read: Permission denied; check"):
        find([str(tmp_path / "x.json")])
