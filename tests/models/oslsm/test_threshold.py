"""Thresholds are chosen on validation episodes, and kept in the checkpoint."""

import pytorch_lightning as pl
import torch

from lightning_fewshot.data import EpisodeCounts


def test_fit_chooses_the_threshold_and_the_checkpoint_keeps_it(segmenter, make_scenes, tmp_path):
    data = make_scenes(episodes=EpisodeCounts(2, 4, 2))
    module = segmenter("PrototypeSegmenter")
    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "num_sanity_val_steps": 0}
    trainer = pl.Trainer(max_epochs=1, default_root_dir=tmp_path, **options)
    trainer.fit(module, datamodule=data)
    chosen = module.estimates["threshold"].value
    assert float(module.threshold) == torch.tensor(chosen).item() != 0.5
    path = str(tmp_path / "saved.ckpt")
    trainer.save_checkpoint(path)
    fresh = segmenter("PrototypeSegmenter")
    pl.Trainer(**options).test(fresh, datamodule=data, ckpt_path=path, verbose=False)
    assert float(fresh.threshold) == float(module.threshold)
    assert "threshold" not in fresh.estimates
    episode = data.episode("test", 0)
    (pred,) = fresh(episode)
    assert torch.equal(pred.masks, pred.probs > fresh.threshold)


def test_a_given_threshold_stays(segmenter, make_scenes):
    module, episode = segmenter("PrototypeSegmenter", threshold=0.7).eval(), make_scenes().episode("test", 0)
    (pred,) = module(episode)
    assert torch.equal(pred.masks, pred.probs > 0.7)
    assert module.fixed_threshold == 0.7
