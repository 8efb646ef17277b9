"""The command line: what is wrong gets one message, exit code 2 and no traceback."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import tiny

import nlpft
from nlpft import cli


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("convrt x", "did you mean 'convert'"),
        ("convert", "no input"),
        ("convert gone.json -o out --model TINY", "gone.json: no such file"),
        ("convert text.json -o out --model TINY", "text.json"),
        ("convert other.json -o out --model TINY", "none of 2 rows can be used"),
        ("convert empty.json -o out --model TINY", "none of 0 rows"),
        ("convert good.json -o out --model TINY --max_length 100000", "context of TINY, 256 tokens"),
        ("convert good.json -o out --model TINY --max_length 0", "max_length 0"),
        ("convert good.json -o out --model ./gone", "gone"),
        ("convert good.json -o out --model TINY --template chatmI", "did you mean 'chatml'"),
        ("convert good.json -o out --model TINY --format sharegtp", "did you mean 'sharegpt'"),
        ("convert good.json -o out --modle TINY", "--model"),
        ("convert good.json -o good.json/out --model TINY", "cannot be written"),
        ("convert good.json -o TINY --to alpaca", "TINY: a folder"),
        ("convert good.json -o good.json/out --to alpaca", "cannot be written"),
        ("convert good.json -o out --to alpaca --duplicates exact", "--duplicates has no effect"),
        ("eval TINY --heldout gone.json -o out", "gone.json: no such file"),
        ("eval ./gone --heldout good.json -o out", "gone"),
        ("eval TINY --heldout other.json -o out", "other.json:1: unknown format"),
        ("compare gone also_gone", "gone"),
        ("report gone", "gone"),
        ("inspect gone", "gone: not a dataset folder"),
        ("merge TINY -o out", "adapter"),
        ("chat ./gone", "gone"),
        ("train stf", "did you mean 'sft'"),
        ("copy stf", "sft"),
    ],
)
def test_a_mistake_gets_a_message_and_leaves_nothing(words, said, tmp_path, tiny_folder, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "TINY").symlink_to(tiny_folder)
    tiny.write_json(tmp_path / "good.json", [tiny.chat("q", "a")])
    tiny.write_json(tmp_path / "other.json", [{"x": 1}, {"y": 2}])
    (tmp_path / "text.json").write_text("just text\n")
    (tmp_path / "empty.json").write_text("[]")
    before = sorted(tmp_path.iterdir())
    assert cli.main(words.split()) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert "Traceback" not in printed.err + printed.out
    assert sorted(tmp_path.iterdir()) == before


def test_convert_then_convert_again_is_a_hit_or_says_the_folder_is_in_use(tmp_path, tiny_folder, capsys):
    file = tiny.write_json(tmp_path / "good.json", [tiny.chat("q", "a"), {"x": 1}])
    words = ["convert", str(file), "-o", str(tmp_path / "out"), "--model", str(tiny_folder)]
    assert cli.main(words) == 1  # half of the rows are rejected
    printed = capsys.readouterr()
    assert "unknown format" in printed.out
    assert "50.0% of the rows were rejected, more than max_rejected 5.0%" in printed.err
    assert json.loads((tmp_path / "out" / "ledger.json").read_text())["rows_read"] == 2
    assert cli.main([*words, "--max_rejected", "0.5"]) == 0
    assert "already converted" in capsys.readouterr().out
    tiny.write_json(file, [tiny.chat("another", "row")])
    assert cli.main(words) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_no_command_shows_the_commands(capsys):
    assert cli.main([]) == 2
    assert cli.main(["--help"]) == 0
    assert "convert" in capsys.readouterr().out
    assert cli.main(["--version"]) == 0


def test_python_m_nlpft_is_the_command(tmp_path):
    def run(*words):
        return subprocess.run([sys.executable, "-m", "nlpft", *words], capture_output=True, text=True, cwd=tmp_path)

    assert run("--version").stdout.split() == [nlpft.__version__]
    wrong = run("convrt")
    assert (wrong.returncode, "did you mean 'convert'" in wrong.stderr) == (2, True)


def test_a_forked_child_that_is_terminated_cleans_nothing_up(tmp_path):
    with cli.terminable():
        child = os.fork()
        if not child:
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(5)
            finally:
                (tmp_path / "cleaned").touch()
                os._exit(0)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGTERM
    assert not (tmp_path / "cleaned").exists()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
