"""A GGUF file for llama.cpp and what stands on it, by llama.cpp's own converter (convert_hf_to_gguf.py)."""

import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

from nlpft.errors import ConfigError, ModelError
from nlpft.serving._source import Settings, Source, write_whole

SCRIPTS = ("convert_hf_to_gguf.py", "convert-hf-to-gguf", "convert_hf_to_gguf")
FILE = "model.gguf"
TAIL = 8  # lines of what the converter said


def check(settings: Settings) -> None:
    """Raise ConfigError where there is no converter."""
    converter(settings)


def converter(settings: Settings) -> Path:
    """llama.cpp's script: the one named, or on the PATH. Raises ConfigError where there is none."""
    if settings.converter is not None:
        if not settings.converter.is_file():
            raise ConfigError(f"--converter {settings.converter}: no such file; name llama.cpp's {SCRIPTS[0]}")
        return settings.converter
    found = next((path for name in SCRIPTS if (path := shutil.which(name))), None)
    if found is None:
        raise ConfigError(
            f"--to gguf needs llama.cpp's {SCRIPTS[0]}, which is in no package: clone llama.cpp (github.com/ggml-org/llama.cpp) "
            f"and name it by --converter llama.cpp/{SCRIPTS[0]}, or put it on the PATH"
        )
    return Path(found)


def write(source: Source, output: Path, settings: Settings) -> list[str]:
    """One file, model.gguf. Raises ConfigError for --adapter, ModelError where the converter fails."""
    if settings.adapter:
        raise ConfigError("--adapter: --to gguf writes whole weights; leave it out")
    with tempfile.TemporaryDirectory(prefix=".gguf-", dir=output.parent) as work:
        said = write_whole(source, Path(work), settings)
        return [*said, convert(Path(work), output / FILE, settings)]


def convert(model: Path, file: Path, settings: Settings) -> str:
    """Run the converter on the whole weights in `model`; what is to be said. Raises ModelError where it fails."""
    script = converter(settings)
    words = [str(model), "--outfile", str(file), "--outtype", settings.outtype]
    command = [sys.executable, str(script), *words] if script.suffix == ".py" else [str(script), *words]
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    tensors = tensor_count(file) if ran.returncode == 0 else 0
    if not tensors:
        tail = "\n".join("  " + line for line in ran.stdout.strip().splitlines()[-TAIL:])
        ended = f"ended with {ran.returncode}" if ran.returncode else f"wrote no tensors to {file.name}"
        raise ModelError(
            f"{script} {ended}; it needs its own packages (llama.cpp's requirements.txt) and said last:\n{tail}"
        )
    return f"{file.name}: {tensors} tensors, {file.stat().st_size / 2**20:.0f} MiB"


def tensor_count(file: Path) -> int:
    """Tensors that a GGUF file says it holds (its header: magic, version, tensors, metadata); 0 where it is none."""
    if not file.is_file():
        return 0
    with file.open("rb") as read:
        start = read.read(16)
    return struct.unpack("<4sIQ", start)[2] if len(start) == 16 and start[:4] == b"GGUF" else 0
