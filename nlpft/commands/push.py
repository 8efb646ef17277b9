"""Upload a finished model to the Hugging Face hub, into a private repository unless told otherwise."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from nlpft.commands._publish import REPO, contents
from nlpft.errors import ConfigError, UserError
from nlpft.models.pretrained import resolve
from nlpft.rundir import model_folder


@dataclass(frozen=True)
class Config:
    model: tyro.conf.Positional[str]
    """A run folder (its model/), or a folder of an adapter or of weights."""
    repo: tyro.conf.Positional[str]
    """owner/name on the hub; made if it is not there."""
    public: bool = False
    """Everybody may read it; needed for a repository that is public already, too."""
    dry_run: bool = False
    """List what would be uploaded, and ask nobody."""
    base: str | None = None
    """What the adapter's base is called on the hub, where the adapter names a folder of this machine; in its card, too."""
    message: str = "Upload by nlpft"
    """Of the commit."""


def run(config: Config) -> int:
    if not REPO.fullmatch(config.repo):
        raise ConfigError(f"repo {config.repo!r}: must be owner/name")
    folder = resolve(model_folder(config.model))
    files = contents(folder, config.repo, config.base)
    console = Console(highlight=False)
    for name, content in files.items():
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        console.print(f"{size:>15,} bytes  {name}", markup=False, soft_wrap=True)
    kind = "public" if config.public else "private"
    if config.dry_run:
        console.print(f"would go to {config.repo} ({kind}); nothing was uploaded", markup=False, soft_wrap=True)
        return 0
    url = upload(files, config)
    console.print(f"{config.repo} ({kind}): {url}", markup=False, soft_wrap=True)
    return 0


def upload(files: dict[str, Path | bytes], config: Config) -> str:
    """One commit with all files; its address. Raises UserError where the hub cannot be reached or does not let us."""
    from huggingface_hub import CommitOperationAdd, HfApi  # 0.3 s of import that a dry run does not need
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()
    operations = [CommitOperationAdd(name, content) for name, content in files.items()]
    try:
        api.create_repo(config.repo, private=not config.public, exist_ok=True)
        if not config.public and not api.model_info(config.repo).private:
            raise ConfigError(
                f"{config.repo}: is public already, so everybody could read this; choose another, or add --public"
            )
        return str(api.create_commit(config.repo, operations, commit_message=config.message).commit_url)
    except ConfigError:
        raise
    except HfHubHTTPError as error:
        raise UserError(f"{config.repo}: {denied(error)}; nothing was uploaded") from error
    except Exception as error:  # the hub's client, its HTTP library and the system share no base
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"{config.repo}: the hub cannot be used ({type(error).__name__}: {reason}); nothing was uploaded. Where there is a "
            "network, unset HF_HUB_OFFLINE and log in by `hf auth login`; else take the folder there as it is"
        ) from error


def denied(error: Any) -> str:
    """What the hub's refusal means."""
    code = getattr(getattr(error, "response", None), "status_code", None)
    if code in (401, 403):
        return f"the hub does not let you write there ({code}); log in by `hf auth login` with a token that may write"
    return f"the hub refused ({code}): {str(error).strip().splitlines()[0]}"
