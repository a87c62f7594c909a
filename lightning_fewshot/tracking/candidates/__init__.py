"""Candidate boxes: drawn around a target, pooled from feature maps, refined by regression (RT-MDNet and MetaRTT)."""
