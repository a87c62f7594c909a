"""The metrics of detection over pairs of predictions and episodes."""

from lightning_fewshot.metrics.detection import DetectionMetrics

THRESHOLDS = (0.3, 0.5, 0.7)


def measure(pairs, **kwargs):
    metric = DetectionMetrics(**{"iou_thresholds": THRESHOLDS, "resamples": 20, **kwargs})
    for preds, episode in pairs:
        metric.update(preds, episode)
    return metric.compute()
