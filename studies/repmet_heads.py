"""Which head names the regions of one and the same detector best: RepMet's by several recipes, or the baselines'?

    FEWSHOT_DATA=/data python studies/repmet_heads.py runs/.../checkpoints/last.ckpt CACHE              # validation
    ... CACHE --part test --recipes "sigma 0.5" --seeds 3                                               # once

CACHE is a folder; what is in it already (regions of images, results of a head) is not computed again.

The checkpoint is a PlainDetector's. Its pooled features of regions (true boxes and proposals) are computed once, of
Tiny-ImageNet mosaics or of COCO's photos. Every head starts from the detector's second fully connected layer
(baseline-DML-external from nothing) and trains for the same steps on the same regions; all are asked the same
questions with 1, 5 and 10 shots, so that differences are paired. baseline-FT is a linear layer on baseline-DML's
features, fine-tuned from class means. Scores are those of eq. (2) alone: no objectness, no foreground exponent. A seed
gives a head's initialisation and the order of its regions; values are means over seeds, intervals are over query photos
and episodes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from repmet_bench.data import CocoPhotos, Mosaics
from repmet_bench.regions import proposal_recall, remembered
from repmet_bench.scores import FINETUNED, Asked, Prepared, Resamples, judge, scores_of, table
from repmet_bench.training import DML, EXTERNAL, RECIPES, first_layer, train
from torch import Tensor

from lightning_fewshot.checkpoints import build_module

N_QUERY = {"mosaics": 10, "coco": 3}
N_CLASSES = {"val": 20, "test": 22, "both": 42}  # of the mosaics


def bench_of(options: argparse.Namespace, part: str, way: int, shots: int, n_query: int) -> Mosaics | CocoPhotos:
    """Return the data that the options ask for, seen by the detector of the checkpoint; a way of 0: all classes."""
    detector, cache = build_module(options.checkpoint).eval(), Path(options.cache)
    if options.data == "coco":
        return CocoPhotos(options.checkpoint, detector, cache / "coco", part, way, shots, n_query)
    way = way or (len(detector.classes) if part == "seen" else N_CLASSES[part])
    return Mosaics(detector, cache / "mosaics", part, way, shots, n_query)


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Add what the studies of heads share."""
    parser.add_argument("checkpoint", help="of a PlainDetector, trained on these data")
    parser.add_argument("cache", help="folder of what was computed before")
    parser.add_argument("--data", choices=list(N_QUERY), default="mosaics")
    parser.add_argument("--batches", type=int, default=120, help="training batches whose regions are trained on")
    parser.add_argument("--steps", type=int, default=400, help="steps of a head's training")
    parser.add_argument("--seeds", type=int, default=1)


class Trained:
    """The heads of one seed, trained when they are first asked for.

    Args:
        bench: Data and detector.
        options: Batches and steps.
    """

    def __init__(self, bench: Mosaics | CocoPhotos, options: argparse.Namespace) -> None:
        self.detector = bench.detector
        self.steps = options.steps
        pooled, self.labels = bench.training(options.batches)
        self.inputs = {True: pooled, False: first_layer(bench.detector, pooled)}
        print(f"{len(self.labels)} training regions, {int((self.labels > 0).sum())} of objects", flush=True)

    def head(self, name: str, seed: int):
        """Return a trained head."""
        regions = self.inputs[name == EXTERNAL], self.labels
        return train(self.detector, name, regions, self.steps, seed)


def measured(
    bench: Mosaics | CocoPhotos, names: list[str], resamples: Resamples, trained: Trained, options, seed: int
) -> dict[str, dict[str, Tensor]]:
    """Return of each head its rows: ``(3, E, 1 + B)`` by "row, k shots"."""
    asked = Asked(options.finetune, options.variants, options.known)
    heads = {name: trained.head(name, seed) for name in names}
    rows: dict[str, dict[str, list[Tensor]]] = {name: {} for name in names}
    for i, episode in enumerate(bench.episodes(options.episodes)):
        prepared, weights = Prepared(bench.detector, episode), resamples.of_episode(i)
        for name, head in heads.items():
            for k_shot in options.shots:
                for row, scores in scores_of(name, head, prepared, k_shot, asked).items():
                    rows[name].setdefault(f"{row}|{k_shot}", []).append(judge(episode, scores, weights).float())
        if (i + 1) % 10 == 0:
            print(f"seed {seed}: {i + 1} of {options.episodes} episodes", flush=True)
    return {name: {row: torch.stack(values, 1) for row, values in found.items()} for name, found in rows.items()}


def collected(bench: Mosaics | CocoPhotos, names: list[str], resamples: Resamples, options: argparse.Namespace):
    """Return ``{row: (S, 3, E, 1 + B)}`` of every number of shots; finished heads are read from the cache."""
    folder = Path(options.cache) / options.data / "results"
    asked = [options.part, options.way, options.n_query, options.episodes, options.batches, options.steps]
    asked += [*options.shots, options.finetune, int(options.variants), int(options.known)]
    key, trained = "-".join(map(str, asked)), None
    by_seed: list[dict[str, Tensor]] = []
    for seed in range(options.seeds):
        paths = {name: folder / f"{key} {name} {seed}.pt" for name in names}
        lacking = [name for name, path in paths.items() if not path.is_file()]
        if lacking:
            trained = trained or Trained(bench, options)
            found = measured(bench, lacking, resamples, trained, options, seed)
            for name in lacking:
                remembered(paths[name], lambda name=name, found=found: found[name])
        kept = [torch.load(path, weights_only=True) for path in paths.values()]
        by_seed.append({row: values for rows in kept for row, values in rows.items()})
    return {
        k: {r.rpartition("|")[0]: torch.stack([s[r] for s in by_seed]) for r in by_seed[0] if r.endswith(f"|{k}")}
        for k in options.shots
    }


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_common_options(parser)
    parser.add_argument("--part", choices=["val", "test", "both"], default=None, help="classes that are asked")
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES), choices=list(RECIPES), metavar="RECIPE")
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--way", type=int, default=5, help="classes of an episode; 0: all of the part")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5, 10])
    parser.add_argument("--n-query", type=int, default=None, help="query images of a class; mosaics 10, coco 3")
    parser.add_argument(
        "--finetune", type=int, default=0, help="also fine-tune RepMet and baseline-DML, for these steps"
    )
    parser.add_argument("--variants", action="store_true", help="also the features alone, and the authors' ranking")
    parser.add_argument("--known", action="store_true", help="also scores with the background known")
    options = parser.parse_args()
    options.part = options.part or ("test" if options.data == "coco" else "val")
    options.n_query = options.n_query or N_QUERY[options.data]
    if options.data == "coco" and not options.way:
        parser.error("--way 0 is for the mosaics: COCO's classes have no photos of their own for all at once")
    options.way = options.way or N_CLASSES[options.part]
    return options


def main() -> None:
    """Print mAP and recall of every head, and its paired differences from baseline-DML and baseline-FT."""
    options = parse()
    bench = bench_of(options, options.part, options.way, max(options.shots), options.n_query)
    names, truth, images, given = [], [], set(), []
    for episode in bench.episodes(options.episodes):
        names.append([c.name for c in episode.query])
        truth.append(episode._replace(support=[], query=[c._replace(pooled=c.pooled[:0]) for c in episode.query]))
        images |= {c.name for c in episode.query}
        given.append([sum(int((s < k).sum()) for s in episode.shots) / options.way for k in options.shots])
    resamples = Resamples(names)
    print(
        f"{options.data}, {options.part}: {len(names)} episodes, {options.way}-way, {len(images)} distinct query photos"
    )
    shots = torch.tensor(given).mean(0).tolist()
    print(f"shots of a class: {', '.join(f'{k}: {n:.1f}' for k, n in zip(options.shots, shots, strict=True))}")
    recalls = proposal_recall(truth, [10, 25, 50, 100])
    print("recall of the proposals: " + ", ".join(f"{100 * v:.1f} among {n}" for n, v in recalls.items()), flush=True)
    found = collected(bench, [DML, EXTERNAL, *options.recipes], resamples, options)
    for k_shot, results in found.items():
        seeds = f"{options.seeds} seed{'s' * (options.seeds > 1)}"
        print(f"\n{options.way}-way {k_shot}-shot, {options.steps} steps, {seeds}:\n")
        print(table(results, resamples, [DML, FINETUNED]), flush=True)


if __name__ == "__main__":
    main()
