"""Whether the Hugging Face Hub can be reached, asked once before its libraries would ask six times for every file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from expo_lite.config.settings import Config

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}", re.ASCII)
_SECONDS = 10  # to connect, as the Hub's own libraries allow


def hub_names(config: Config) -> list[str | None]:
    """What a configuration names that may be on the Hub."""
    return [config.policy.model, config.policy.adapter, config.data.source, config.data.test_source]


def offline_if_unreachable(names: Iterable[str | None]) -> None:
    """Where one of `names` may be on the Hub and the Hub cannot be reached, its libraries use their caches alone.

    What is cached then loads at once, and what is not is an error at once instead of after half a minute of retries.
    """
    if not any(may_be_on_hub(name) for name in names if name) or reachable():
        return
    from huggingface_hub import constants

    os.environ["HF_HUB_OFFLINE"] = "1"  # for `datasets`, which reads it when it is imported
    constants.HF_HUB_OFFLINE = True


def may_be_on_hub(name: str) -> bool:
    """Whether a model's or data set's name is like OWNER/NAME and nothing here has that name."""
    return bool(HUB_ID.fullmatch(name)) and not Path(name).expanduser().exists()


def reachable() -> bool:
    """Whether the Hub answers, directly or through a proxy, in one of two attempts; what it answers does not matter."""
    import httpx  # late: most runs of the tiny preset need neither
    from huggingface_hub import constants, get_session

    for _ in range(2):
        try:
            get_session().head(constants.ENDPOINT, timeout=_SECONDS)
            return True
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError):
            continue
        except (httpx.HTTPError, OSError):  # also offline mode, which is set already
            return True
    return False
