"""Processor time to draw a scene and a video frame. Run with `pytest tests/benchmarks -s`."""

import time

import cv2
import numpy as np
from timing import say

from datamodules.world import draw_scene, draw_video, make_class
from datamodules.world.background import draw_background, finish


def _seconds(draw, n: int = 200) -> float:
    draw(np.random.default_rng(0))  # templates, tiles and grain are painted once
    for i in range(n):
        draw(np.random.default_rng(i))
    times = []
    for i in range(n):
        start = time.process_time()
        draw(np.random.default_rng(i))
        times.append(time.process_time() - start)
    return float(np.median(times))


def test_scene_speed():
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        classes = [make_class(i) for i in range(60)]

        def scene(rng):
            objects = [classes[i] for i in rng.integers(0, 40, int(rng.integers(1, 5)))]
            return draw_scene(rng, objects, clutter=classes[40:])

        total = _seconds(scene)
        ground = _seconds(lambda rng: finish(rng, draw_background(rng, 160)))
        say(f"scene 160 px, 1-4 objects: {1e3 * total:.2f} ms, {total / ground:.1f} times its ground and finish")
        assert total <= 5 * ground
    finally:
        cv2.setNumThreads(threads)


def test_video_speed():
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        classes = [make_class(i) for i in range(8)]
        video = draw_video(np.random.default_rng(0), classes[0], 400, distractors=classes[:3], clutter=classes[3:])

        def frame(rng):
            return video[int(rng.integers(len(video)))]

        def truth(rng):
            return video.truth(int(rng.integers(len(video))))

        total, alone = _seconds(frame), _seconds(truth)
        ground = _seconds(lambda rng: finish(rng, draw_background(rng, 160)))
        say(f"video frame 160 px, 4 moving objects: {1e3 * total:.2f} ms, truth alone {alone / total:.0%}")
        assert alone < total <= 5 * ground
    finally:
        cv2.setNumThreads(threads)
