"""``python -m lightning_fewshot fit --config experiments/<name>.yaml``."""

from lightning_fewshot.cli import main

if __name__ == "__main__":
    main()
