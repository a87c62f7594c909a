"""Images with class masks as few-shot segmentation episodes."""
