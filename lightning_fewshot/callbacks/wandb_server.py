"""Whether the W&B server that is configured answers, found out within seconds."""

from __future__ import annotations

import base64
import configparser
import json
import netrc
import os
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

DEFAULT_URL = "https://api.wandb.ai"
PROBE_SECONDS = 3.0
QUERY = json.dumps({"query": "query { viewer { id } }"}).encode()


def why_offline() -> str | None:
    """Return why W&B cannot be used, or None where it can; takes at most ``PROBE_SECONDS``."""
    if os.environ.get("WANDB_MODE") in ("offline", "dryrun"):
        return "WANDB_MODE asks for it"
    url = base_url()
    host = urllib.parse.urlsplit(url).hostname or url
    key = os.environ.get("WANDB_API_KEY") or _netrc_key(host)
    if not key:
        return "no account: run `wandb login`"
    return _within(PROBE_SECONDS, lambda: _probe(url, key), f"{host} does not answer")


def base_url() -> str:
    """Return the address of the server: WANDB_BASE_URL, else that of W&B's settings files, else the public one."""
    url = os.environ.get("WANDB_BASE_URL")
    settings = Path(os.environ.get("WANDB_CONFIG_DIR", Path.home() / ".config/wandb")) / "settings"
    for path in (Path("wandb/settings"), settings):
        url = url or _setting(path, "base_url")
    return (url or DEFAULT_URL).rstrip("/")


def _setting(path: Path, name: str) -> str | None:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(path)
        return parser.get("default", name, fallback=None)
    except (configparser.Error, OSError, UnicodeDecodeError):
        return None


def _probe(url: str, key: str) -> str | None:
    """Ask the question that every run begins with; return what is wrong."""
    token = base64.b64encode(f"api:{key}".encode()).decode()
    headers = {"Content-Type": "application/json", "Authorization": f"Basic {token}"}
    host = urllib.parse.urlsplit(url).hostname or url
    try:
        request = urllib.request.Request(f"{url}/graphql", data=QUERY, headers=headers)
        with urllib.request.urlopen(request, timeout=PROBE_SECONDS) as answer:
            answer.read(1)
    except urllib.error.HTTPError as error:
        return f"{host} refuses the account's key" if error.code in (401, 403) else f"{host} answers {error.code}"
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return f"{host} does not answer" if isinstance(reason, TimeoutError) else f"no network: {host}: {reason}"
    return None


def _within(seconds: float, ask: Callable[[], str | None], otherwise: str) -> str | None:
    """Return the answer, or ``otherwise`` where it takes longer: a server may hang at any point, names included."""
    answers: list[str | None] = []
    thread = threading.Thread(target=lambda: answers.append(ask()), daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else otherwise


def _netrc_key(host: str) -> str | None:
    try:
        entry = netrc.netrc(os.environ.get("NETRC")).authenticators(host)
    except (OSError, netrc.NetrcParseError):
        return None
    return entry[2] if entry else None
