"""A written export -> a new model repository on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from expo_lite.config.hub import reachable
from expo_lite.core.errors import ConfigError, first_line


def refuse_unready(name: str) -> None:
    """Raises ConfigError where `name` is no repository's, nobody is logged in, or the Hub cannot be reached."""
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ConfigError(f"--push-to-hub: {first_line(error)}") from None
    if get_token() is None:
        raise ConfigError("--push-to-hub: nobody is logged in to the Hub; `hf auth login` does it, or set HF_TOKEN")
    if not reachable():
        raise ConfigError("--push-to-hub: the Hub cannot be reached; export without it, and upload later")


def push(folder: Path, name: str, private: bool) -> str:
    """Make the repository and upload the folder in one commit; the repository's address.

    Raises ConfigError where the Hub refuses; the folder stays as it is.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    api = HfApi()
    try:
        # an existing one is not overwritten, and a public one would stay public whatever --private says
        repository = api.create_repo(name, private=private, exist_ok=False)
        api.upload_folder(repo_id=repository.repo_id, folder_path=folder, commit_message="Export of an ExPO-Lite run")
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
        raise ConfigError(
            f"--push-to-hub: the Hub refused: {first_line(error)}\n"
            f"{folder} is complete; `hf upload {name} {folder}` uploads it into a repository that exists."
        ) from None
    return str(repository)
