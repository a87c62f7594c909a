"""What a run shows and keeps: progress, the result file, pictures of episodes."""
