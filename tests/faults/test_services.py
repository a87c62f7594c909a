"""A W&B server that is down, hangs or fails costs a run 15 seconds at most, and the run goes on offline."""

import socket
import time
from pathlib import Path

import pytest
from wandb_servers import HANG, Server

pytestmark = pytest.mark.faults
MOST_SECONDS = 15
OFFLINE = {}  # seconds, measured once
SHORT = ["--trainer.max_epochs", 1]


def timed(cli, monkeypatch, run_dir, **environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    began = time.monotonic()
    cli("fit", *SHORT, run_dir=run_dir)
    return time.monotonic() - began


@pytest.fixture
def offline(cli, monkeypatch, in_tmp):
    """Seconds of a run that asks nobody; the first one imports."""
    monkeypatch.setenv("HOME", str(in_tmp))
    monkeypatch.setenv("NETRC", str(in_tmp / "netrc"))
    for name in ("first", "second") if not OFFLINE else ():
        OFFLINE[name] = timed(cli, monkeypatch, name, WANDB_MODE="offline")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    return OFFLINE["second"]


@pytest.mark.parametrize(
    "statuses",
    [(), (500,), (HANG,), (200, 500), (200, HANG)],
    ids=["down", "500", "hangs", "fails later", "hangs later"],
)
def test_what_a_server_costs(cli, results, monkeypatch, capfd, offline, statuses):
    server = Server(*statuses) if statuses else None
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = server.url if server else f"http://127.0.0.1:{unused.getsockname()[1]}"
    seconds = timed(cli, monkeypatch, "run", WANDB_BASE_URL=url, WANDB_API_KEY="x" * 40)
    print(f"{seconds - offline:.1f} s more than offline")
    assert seconds - offline < MOST_SECONDS
    assert "W&B runs offline" in "".join(capfd.readouterr())
    assert list(Path("run/wandb").glob("offline-run-*"))
    assert results()["metrics"]["accuracy"]["n"] == 5
    if server:
        server.close()
