"""One experiment of each task on the sizes of its tests, for faults and long runs."""

from pathlib import Path

FOLDER = Path(__file__).parents[2] / "experiments"
TASKS = {
    "characters": ("learnet.yaml", "learnet/tiny.yaml"),
    "tracking": ("learnet_tracker.yaml", "learnet_tracker/tiny.yaml"),
    "segmentation": ("oslsm.yaml", "oslsm/tiny.yaml"),
    "detection": ("repmet.yaml", "repmet/tiny.yaml"),
    "classification": ("repmet_classifier.yaml", "repmet_classifier.tiny.yaml"),
}
SMALLER = {  # so that what is started a hundred times starts and ends soon
    "characters": ["--data.alphabets={background: 6, evaluation: 4, fewest: 5, most: 6}"],
    "tracking": ["--data.max_frames=5", "--model.search.scales=1"],
    "segmentation": ["--data.batch_size=1"],
    "detection": ["--data.batch_size=1", "--data.scene.image_size=64"],
}


def task_words(task):
    """Return the arguments of a task's experiment."""
    return [*config_words(*TASKS[task]), *SMALLER.get(task, [])]


def config_words(*names):
    """Return ``--config`` for each file below experiments/."""
    return [word for name in names for word in ("--config", str(FOLDER / name))]
