"""What image classifiers share: an encoder with an embedding, classes as mixtures, the closed set."""
