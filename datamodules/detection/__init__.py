"""Photos with boxes as few-shot detection episodes."""
