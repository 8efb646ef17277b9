"""A folder for `ollama create`: weights, or by --adapter the adapter, and a Modelfile with the model's own chat template."""

import json
from pathlib import Path
from typing import Any

from nlpft.data.tokenizer import TextTokenizer
from nlpft.models.load import load_tokenizer, stored_context, tokenizer_folder
from nlpft.models.pretrained import resolve
from nlpft.serving import gguf
from nlpft.serving._go_template import go_template
from nlpft.serving._source import Settings, Source, chat_template, write_adapter, write_endings, write_whole
from nlpft.types import Message

CONTEXT = 8192  # tokens, at most: Ollama reserves room for all of them; left out it takes 4096 and cuts in silence
SAMPLING = ("temperature", "top_p", "top_k", "repetition_penalty")
NAMES = {"repetition_penalty": "repeat_penalty"}  # where Ollama calls it otherwise


def check(settings: Settings) -> None:
    """Raise ConfigError where a converter is named that is not there."""
    if settings.converter is not None:
        gguf.check(settings)


def write(source: Source, output: Path, settings: Settings) -> list[str]:
    """Weights (as model.gguf where a converter is named) and Modelfile. Raises ModelError for templates it cannot say in Go."""
    chat_template(source)
    chat = TextTokenizer(tokenizer_folder(source.name)).chat_template()
    bos = added_bos(load_tokenizer(source.name))
    template = go_template(chat, bos)
    if settings.adapter:
        write_adapter(source, output)
        said, model = [], f"FROM {resolve(str(source.base))}\nADAPTER ."
        (output / "generation_config.json").unlink(missing_ok=True)
    elif settings.converter is not None:
        said, model = gguf.write(source, output, settings), f"FROM ./{gguf.FILE}"
    else:
        said, model = write_whole(source, output, settings), "FROM ."
    ends = write_endings(source, output)
    lines = [model, f'TEMPLATE """{template}"""', *parameters(source, output, ends)]
    (output / "Modelfile").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if bos and not chat.render([Message("user", "?")], generate=True).startswith(bos):
        said.append(
            f"note: Ollama puts {bos} before every prompt, as the tokenizer does with plain text; the chat template does not"
        )
    return [*said, f"ollama create {source.label} -f FOLDER/Modelfile"]


def added_bos(tokenizer: Any) -> str:
    """The token that the tokenizer puts before every text, '' if it puts none: a model may have one and not use it so."""
    bos = tokenizer.bos_token_id
    return tokenizer.bos_token if bos is not None and tokenizer("x")["input_ids"][0] == bos else ""


def parameters(source: Source, output: Path, ends: list[int]) -> list[str]:
    """Lines of the Modelfile: where answers stop, how tokens are chosen, how much the model sees."""
    tokenizer = load_tokenizer(source.name)
    settings = _json(output / "generation_config.json")
    context = stored_context(source.name)
    lines = [f"PARAMETER stop {json.dumps(tokenizer.decode([token]), ensure_ascii=False)}" for token in ends]
    chosen = {name: settings[name] for name in SAMPLING if settings.get(name) is not None}
    lines += [f"PARAMETER {NAMES.get(name, name)} {value}" for name, value in chosen.items()]
    return lines + ([f"PARAMETER num_ctx {min(context, CONTEXT)}"] if context else [])


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
