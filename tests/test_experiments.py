"""Every yaml in experiments/, found by glob, runs through the command of its header, on the sizes of its tiny file."""

import json

import pytest
import yaml
from tiny_experiments import FOLDER, ROOT, RUNNABLE, STRATEGIES, SWEEPS, command, header, initial, run_tiny

from lightning_fewshot.cli import main
from lightning_fewshot.module import FewShotModule


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: str(path.relative_to(FOLDER)))
def test_every_experiment_runs_as_on_a_gpu(path, in_tmp, monkeypatch, tiny_data, simulated_gpu, documented_waits):
    """A step of training, validation and test mixes no devices, and waits no more often than docs/scale.md says."""
    monkeypatch.setenv("FEWSHOT_DATA", str(tiny_data))
    monkeypatch.chdir(tiny_data)
    monkeypatch.setattr(FewShotModule, "on_predict_start", lambda self: None)  # the header's checkpoint is left out
    try:
        start = initial(path, in_tmp / "initial")
        with simulated_gpu() as device:
            run_tiny(path, in_tmp / "run", *start)
    except SystemExit as error:
        if "download" in str(error.code):
            pytest.skip(str(error.code))
        raise AssertionError(error.code) from error
    assert not device.mixed, "\n".join(device.mixed)
    if command(path)[0] == "predict":
        assert json.loads((in_tmp / "run/predictions.json").read_text()) is not None
        return
    (card,) = (in_tmp / "run").rglob("card.md")
    assert "**Licence of the data:**" in card.read_text()
    metrics = json.loads((in_tmp / "run/results.json").read_text())["metrics"]
    assert metrics
    assert all(metric["n"] >= 1 for metric in metrics.values())
    documented_waits(path, device)


@pytest.mark.parametrize("path", STRATEGIES, ids=lambda path: path.name)
def test_every_strategy_is_parsed(path, in_tmp, capsys):
    """No machine of the tests has several GPUs: the command of the header is parsed, its strategy's class found."""
    wanted = yaml.safe_load(path.read_text())["trainer"]["strategy"]["class_path"]
    subcommand, configs, others = command(path)
    with pytest.raises(SystemExit) as error:
        main([subcommand, *(f"--config={config}" for config in configs), *others, "--print_config"])
    assert error.value.code == 0
    assert yaml.safe_load(capsys.readouterr().out)["trainer"]["strategy"]["class_path"] == wanted


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.name)
def test_every_sweep_names_keys_that_exist(path, in_tmp, capsys, tiny_data, monkeypatch):
    """The first and the last value of every parameter are accepted by the command that the agent would run."""
    monkeypatch.setenv("FEWSHOT_DATA", str(tiny_data))
    monkeypatch.chdir(ROOT)
    header(path)
    sweep = yaml.safe_load(path.read_text())
    words = sweep["command"]
    first = next(i for i, word in enumerate(words) if word in ("fit", "test"))
    assert words[-1] == "${args}"
    fixed = _without_checkpoint([str(word) for word in words[first:-1]])
    if "ckpt_path" in sweep["parameters"] and not any("experiments/data/" not in w for w in fixed if ".yaml" in w):
        fixed[1:1] = ["--config", "experiments/metartt.yaml"]  # its model and data are those of its checkpoint
    for end in (0, -1):
        chosen = {key: choice for key, choice in sweep["parameters"].items() if key != "ckpt_path"}
        arguments = [f"--{key}={_value(choice, end)}" for key, choice in chosen.items()]
        with pytest.raises(SystemExit) as error:
            main([*fixed, *arguments, "--print_config"])
        assert error.value.code == 0, capsys.readouterr().err


def _without_checkpoint(words):
    """Leave out the checkpoint of a run that was not made here."""
    at = words.index("--ckpt_path") if "--ckpt_path" in words else len(words)
    return words[:at] + words[at + 2 :]


def _value(choice, end):
    if "values" in choice:
        return choice["values"][end]
    return choice.get("value", choice.get(("min", "max")[end]))
