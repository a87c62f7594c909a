"""Concrete data, one file a data set. They follow ``lightning_fewshot.base.EpisodicDataModule``."""
