"""The page of many runs, opened in Chromium where it is installed (Debian's package `chromium`)."""

import base64
import csv
import json
import math
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from lightning_fewshot.cli.records import SCHEMA, SCORES_SCHEMA
from lightning_fewshot.cli.report import main
from lightning_fewshot.cli.reporting.curves import logged_numbers
from lightning_fewshot.cli.reporting.plots import Line, line_plot, ticks

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--virtual-time-budget=5000"]
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")

# What a reader does: every step leaves what it saw in an element that --dump-dom shows.
CATCH = (
    "<script>window.failures = []; window.addEventListener('error', (e) => window.failures.push(e.message));</script>"
)
USE = """
<script>
window.addEventListener("load", () => {
  const visible = () => [...document.querySelectorAll("tbody tr")].filter((row) => !row.hidden);
  const column = (name) => [...document.querySelectorAll("th")].findIndex((head) => head.textContent === name);
  const values = (name) => visible().map((row) => row.cells[column(name)].textContent);
  const click = (name) => document.querySelectorAll("th")[column(name)].querySelector("button").click();
  const input = (element, value) => { element.value = value; element.dispatchEvent(new Event("input")); };
  const saw = { start: values("run") };
  click("value"); saw.up = values("value");
  click("value"); saw.down = values("value");
  click("run"); saw.byRun = values("run");
  const search = document.getElementById("search");
  input(search, "plain map"); saw.searched = values("run");
  saw.hiddenLines = document.querySelectorAll(".line[hidden]").length;
  saw.shown = document.getElementById("shown").textContent;
  input(search, "");
  const menu = document.querySelector('select[data-column="data"]');
  input(menu, "OTB"); saw.chosen = values("run");
  input(menu, "");
  saw.images = [...document.images].filter((image) => image.alt).map((image) => [image.alt, image.naturalWidth]);
  document.querySelector("figure img").click();
  saw.enlarged = document.querySelector("dialog").open;
  document.querySelector("dialog").close();
  saw.compared = document.getElementById("compared").innerText;
  const a = document.getElementById("compare-a");
  input(document.getElementById("compare-metric"), "lonely");
  saw.unpaired = document.getElementById("compared").innerText;
  saw.failures = window.failures;
  saw.wide = document.documentElement.scrollWidth > window.innerWidth;
  const element = document.createElement("pre");
  element.id = "saw";
  element.textContent = JSON.stringify(saw);
  document.body.append(element);
});
</script>
"""


def write_run(folder: Path, values: dict[str, float], per_episode=None, **changes) -> Path:
    folder.mkdir(parents=True)
    record = {
        "schema": SCHEMA,
        "experiment": folder.parent.name,
        "model": "RepMetDetector",
        "data": "Scenes",
        "protocol": {"split": "test", "n_way": 5, "k_shot": 1, "seed": 0},
        "metrics": {name: {"value": v, "ci95": [v - 0.01, v + 0.01], "n": 4} for name, v in values.items()},
        "step": 100,
    }
    if per_episode:
        record["per_episode"] = per_episode
    (folder / "results.json").write_text(json.dumps(record | changes))
    (folder / "config.yaml").write_text(yaml.safe_dump({"seed_everything": 3}))
    with open(folder / "metrics.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "step", "train/loss", "val/map_50"])
        writer.writerows(
            [[0, step, math.exp(-step / 50), "" if step % 20 else step / 1000] for step in range(0, 100, 10)]
        )
    return folder


def write_pictures(folder: Path, *names: str, size=(40, 60)) -> None:
    (folder / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for name in names:
        cv2.imwrite(str(folder / "pictures" / name), rng.integers(0, 255, (*size, 3), dtype=np.uint8))


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Work in an empty folder with four runs, two of which share their episodes."""
    monkeypatch.chdir(tmp_path)
    ours = {"map_50": {"0": 0.5, "1": 0.3, "2": 0.4, "3": 0.6}}
    plain = {"map_50": {"0": 0.3, "1": 0.2, "2": 0.4, "9": 0.6}}
    repmet = write_run(Path("runs/repmet/a"), {"map_50": 0.45, "lonely": 0.5}, ours)
    write_pictures(repmet, "test_best_1_0003.png", "test_worst_1_0001.png", "test_0000.png")
    write_run(Path("runs/plain/a"), {"map_50": 0.3, "lonely": 0.2}, plain, model="Plain</script>Detector")
    curves = {"success": [1 - i / 20 for i in range(21)], "precision": [i / 50 for i in range(51)]}
    tracker = write_run(Path("runs/mlt/a"), {"success_auc": 0.4, "fps": 102.5}, data="OTB", curves=curves)
    write_pictures(tracker, "val_0007.png", size=(1500, 1200))
    write_run(Path("runs/empty/a"), {}, metrics={"map_50": {"value": None, "ci95": [None, None], "n": 0}})
    return Path("runs")


def written(*args: str) -> str:
    main([*args, "--out", "report.html"])
    return Path("report.html").read_text()


def opened(text: str, tmp_path: Path) -> dict:
    """Open the page in Chromium, use it, and return what was seen."""
    page = tmp_path / "used.html"
    page.write_text(text.replace("<head>", "<head>" + CATCH).replace("</body>", USE + "</body>"))
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    return json.loads(unescape(re.search(r'<pre id="saw">(.*?)</pre>', dom, re.DOTALL)[1]))


@needs_chromium
def test_the_page_opens_sorts_filters_and_shows_its_pictures(runs, tmp_path):
    saw = opened(written("runs"), tmp_path)
    assert saw["failures"] == []
    assert saw["up"] == ["0.2000", "0.3000", "0.4000", "0.4500", "0.5000", "102.50", "–"]
    assert saw["down"] == ["102.50", "0.5000", "0.4500", "0.4000", "0.3000", "0.2000", "–"], "no value comes last"
    assert saw["byRun"] == sorted(saw["start"])
    assert (saw["searched"], saw["shown"]) == (["plain/a"], "1 of 7 rows")
    assert saw["hiddenLines"] > 0, "curves follow the filter"
    assert saw["chosen"] == ["mlt/a", "mlt/a"]
    assert [alt for alt, _ in saw["images"]] == ["val episode 7", "best 1: test episode 3", "worst 1: test episode 1"]
    assert [width for _, width in saw["images"]] == [800, 60, 60], "large pictures are scaled"
    assert saw["enlarged"]
    assert not saw["wide"], "the page is wider than the window"


def test_an_interval_of_equal_ends_is_shown_and_a_missing_one_is_a_dash(in_tmp):
    write_run(Path("runs/a"), {}, metrics={"map_50": {"value": 1.0, "ci95": [1.0, 1.0], "n": 4}})
    write_run(Path("runs/b"), {}, metrics={"map_50": {"value": 0.5, "ci95": None, "n": 4}})
    page = written("runs")
    assert '<td class="number" data-value="0.0">1.0000 to 1.0000</td>' in page
    assert '<td class="number" data-value="">–</td>' in page


@needs_chromium
def test_two_runs_are_compared_over_their_common_episodes(runs, tmp_path):
    saw = opened(written("runs"), tmp_path)
    differences = np.array([0.3 - 0.5, 0.2 - 0.3, 0.4 - 0.4])  # A is plain/a; episodes 0, 1 and 2 are common
    half = 1.96 * differences.std(ddof=1) / math.sqrt(3)
    assert f"A − B: {differences.mean():.4f} ± {half:.4f} (paired, 95 %): not told apart." in saw["compared"]
    assert "Over the same 3 episodes: A is higher in 0, equal in 1, lower in 2." in saw["compared"]
    half = math.hypot(0.01, 0.01)
    assert f"A − B: -0.3000 ± {half:.4f} (from the two intervals): B is higher." in saw["unpaired"]
    assert "no values by episode (per_episode.lonely)" in saw["unpaired"]


@needs_chromium
def test_episodes_of_another_seed_are_not_paired(runs, tmp_path):
    record = json.loads((runs / "plain/a/results.json").read_text())
    record["protocol"]["seed"] = 1
    (runs / "plain/a/results.json").write_text(json.dumps(record))
    saw = opened(written("runs"), tmp_path)
    assert "Not paired: the two runs have other episodes." in saw["compared"]
    assert "they differ in: seed" in saw["compared"]


def test_the_page_loads_nothing(runs):
    text = written("runs")
    assert "default-src 'none'" in text
    outside = re.findall(
        r"""(?:src|href|url)\s*[=(]\s*["']?(?!data:|#)[^"'\s>)]+""",
        re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL),
    )
    assert outside == []
    assert "Plain</script>" not in text


def test_killed_runs_other_schemas_and_broken_pictures_are_listed(runs, capsys):
    (write_run(Path("runs/killed/a"), {}) / "results.json").unlink()
    write_run(Path("runs/future/a"), {}, schema="lightning_fewshot/results/9")
    broken = write_run(Path("runs/broken/a"), {"map_50": 0.1})
    write_pictures(broken, "test_best_1_0000.png")
    (broken / "pictures" / "test_best_1_0000.png").write_bytes(b"\x89PNG")
    text = written("runs")
    for words in ("runs/killed/a has no results.json", "results/9", "test_best_1_0000.png is cut off or no picture"):
        assert words in text
    assert "runs/killed/a has no results.json" in capsys.readouterr().err


def test_no_runs_at_all(tmp_path):
    with pytest.raises(SystemExit, match="there is no finished run below"):
        main([str(tmp_path)])
    with pytest.raises(SystemExit, match="there is no folder"):
        main([str(tmp_path / "nowhere")])


def test_one_run_alone_is_a_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(Path("runs/a"), {"map_50": 0.2})
    assert "nothing to compare" in written("runs/a")


def test_scored_trackers_are_runs_with_values_by_sequence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    metric = {"success_auc": {"value": 0.5, "ci95": [0.4, 0.6], "n": 2}}
    sequences = {"Box": {"success_auc": 0.4}, "Car": {"success_auc": 0.6}}
    record = {
        "schema": SCORES_SCHEMA,
        "protocol": {"benchmark": "otb", "evaluation": "one-pass"},
        "trackers": {name: {"metrics": metric, "sequences": sequences} for name in ("SiamFC", "MLT")},
    }
    Path("runs/score").mkdir(parents=True)
    Path("runs/score/results.json").write_text(json.dumps(record))
    cv2.imwrite("runs/score/success.png", np.zeros((30, 40, 3), np.uint8))
    text = written("runs")
    assert "score/SiamFC" in text
    assert '"Box": 0.4' in text
    assert 'alt="success.png"' in text


def test_half_a_line_of_metrics_is_skipped(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,train/loss,val/a\n0,1,2.5,\n0,2,nan,0.5\n0,3,1.")
    assert logged_numbers(path) == {"train/loss": ([1.0, 3.0], [2.5, 1.0]), "val/a": ([2.0], [0.5])}


def test_a_line_runs_from_corner_to_corner():
    plot = line_plot("p", "x", [Line(0, "run <1>", [0.0, 10.0], [0.0, 1.0])], limits=(0.0, 1.0))
    start, end = re.search(r'd="M([\d. ]+)L([\d. ]+)"', plot).groups()
    (x0, y0), (x1, y1) = ([float(v) for v in point.split()] for point in (start, end))
    assert x0 < x1
    assert y0 > y1
    assert "run &lt;1&gt;" in plot


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.0, 17.0), (0.001, 0.0013), (5.0, 5.0), (1e4, 9e5)])
def test_ticks_are_few_and_enclose_the_range(low, high):
    values = ticks(low, high)
    assert values[0] <= low <= high <= values[-1]
    assert 2 < len(values) <= 9


def test_pictures_stay_themselves_where_they_are_small(runs):
    text = written("runs")
    uris = re.findall(r'src="(data:image/\w+;base64,[^"]+)"', text)
    kinds = [uri.split(";")[0] for uri in uris]
    assert len(uris) == 3
    assert "data:image/jpeg" in kinds
    assert all(len(base64.b64decode(uri.split(",")[1])) < 600_000 for uri in uris)
