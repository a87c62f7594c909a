"""Images of one class each: batches of classes to train on, episodes and closed sets to evaluate on."""
