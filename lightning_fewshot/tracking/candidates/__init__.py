"""Trackers that score candidate boxes: all that RT-MDNet and MetaRTT share.

- ``settings``: the numbers of the network, of gradient steps, of training episodes and of the tracker.
- ``sampling``: boxes around a target. ``scenes``: what the network sees of a frame, and data sets of samples in it.
- ``network``, ``roi_align``: shared convolutions and regions of samples. ``head``: the fully connected layers.
- ``samples``: positive and negative samples, the batch of a gradient step. ``sgd``: adaptation by SGD with momentum.
- ``tracker``: the loop over frames. ``regression``: refining boxes.
- ``module``: what both are as LightningModules.
"""
