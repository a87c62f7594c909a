"""Videos as tracking episodes."""
