"""Who may import whom, and what the fast paths may not load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

import nlpft

ROOT = Path(nlpft.__file__).parent
FLOORS = [
    {"types", "errors", "versions"},
    {"plugins"},
    {"files"},
    {"config", "rundir", "recipes_dir"},
    {"formats", "templates", "metrics", "losses", "samplers"},
    {"data", "models"},
    {"distillation"},
    {"tuning", "objectives", "search", "serving"},
    {"training", "evaluation"},
    {"strategies"},
    {"cli"},
    {"__main__", "commands", "recipes"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
HEAVY = ("pandas", "torch", "transformers", "datasets", "peft", "accelerate", "lm_eval")


def imports(path: Path) -> set[str]:
    """Parts of nlpft that a file imports, functions' own imports included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "nlpft":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nlpft."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("nlpft.")}
    return found - {"__version__"}


def part(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


FILES = sorted(path for path in ROOT.rglob("*.py") if path.name != "__init__.py" or path.parent != ROOT)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    own = part(path)
    assert own in FLOOR, f"{own} has no floor: add it to FLOORS"
    above = {other for other in imports(path) if other != own and FLOOR[other] >= FLOOR[own]}
    assert not above, f"{path.relative_to(ROOT)} imports {above} from its own floor or above"


def test_there_is_something_to_check():
    assert len(FILES) > 30


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_are_short_and_say_what_they_are(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 500
    assert ast.get_docstring(ast.parse(text)), "the first line says what the file is"


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    "module", ["nlpft.commands.convert", "nlpft.commands.label", "nlpft.data.convert", "nlpft.data.store"]
)
def test_the_conversion_path_loads_nothing_heavy(module):
    loaded = run(f"import sys, {module}; print(*[m for m in {HEAVY} if m in sys.modules])")
    assert loaded.split() == []


def test_convert_help_loads_no_torch():
    code = f"""
import sys
from nlpft.cli import main
try:
    main(["convert", "--help"])
except SystemExit:
    pass
print("LOADED", *[m for m in {HEAVY} if m in sys.modules])
"""
    assert run(code).splitlines()[-1] == "LOADED"


def test_help_lists_every_command_without_importing_any():
    loaded = "[m for m in sys.modules if m.startswith('nlpft.commands') or m == 'tyro']"
    code = f"import sys; from nlpft.cli import main; main(['--help']); print('LOADED', *{loaded})"
    lines = run(code).splitlines()
    assert lines[-1] == "LOADED"
    for name in (p.stem.replace("_", "-") for p in (ROOT / "commands").glob("[a-z]*.py")):
        assert any(line.split()[:1] == [name] and len(line.split()) > 3 for line in lines)


def test_optional_packages_have_a_home():
    """What only some users need is imported in one file at most (a second one would need a reason)."""
    homes: dict[str, set[str]] = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            for name in names:
                homes.setdefault(name.split(".")[0], set()).add(path.name)
    for package in (
        "gguf",
        "tensorboard",
        "wandb",
        "trackio",
        "fastokens",
        "splintr",
        "rensa",
        "zstandard",
        "filelock",
        "fairlearn",
        "captum",
    ):
        assert len(homes.get(package, set())) <= 1, f"{package} is imported in {homes[package]}"


def test_a_conversion_loads_nothing_heavy(tmp_path, tiny_folder):
    rows = [tiny.chat("q", "a"), tiny.chat("word " * 200, "too long for the tiny model")]
    file = tiny.write_json(tmp_path / "rows.json", rows)
    words = ["convert", str(file), "-o", str(tmp_path / "out"), "--model", str(tiny_folder)]
    code = f"import sys; from nlpft.cli import main; main({words!r}); print('LOADED', *[m for m in {HEAVY} if m in sys.modules])"
    assert run(code).splitlines()[-1] == "LOADED"


def test_labelling_loads_nothing_heavy(tmp_path, tiny_folder):
    files = [tmp_path / "rows.txt", tmp_path / "tags.txt"]
    files[0].write_text("good one\nbad two\ngood three\n")
    files[1].write_text("John B-PER\nis O\n\nhere O\n")
    for file in files:
        words = ["label", str(file), "-o", str(tmp_path / f"{file.stem}.out"), "--model", str(tiny_folder)]
        loaded = f"print('LOADED', *[m for m in {HEAVY} if m in sys.modules])"
        code = f"import sys; from nlpft.cli import main; print('CODE', main({words!r})); {loaded}"
        assert run(code).splitlines()[-2:] == ["CODE 0", "LOADED"]
