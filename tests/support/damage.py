"""Damage to files: bytes cut, changed, inserted or repeated, and values of json of another kind."""

import json
from copy import deepcopy

import numpy as np
import pytest

MUTATIONS = 200

ODD = [None, True, "", "x", -1, 0, 2**40, 10**400, 1e308, float("nan"), [], {}, [[]], "../../a.jpg", "/etc/passwd"]
ODD += ["a\0b", "\ud800", "a" * 5000, [1] * 1000, {"a": {"b": []}}]
BYTES = [
    b"",
    b"\0",
    b"\xff\xfe",
    b"\n\n",
    b"\t",
    b",",
    b"-",
    b"1e999",
    b"9" * 400,
    b"<!--",
    b"&lol;",
    b"*a",
    b"[" * 3000,
]


def mutated_bytes(raw, rng):
    """Cut, change, insert or repeat some bytes."""
    place = int(rng.integers(len(raw) + 1))
    kind = rng.integers(5)
    if kind == 0:
        return raw[:place]
    if kind == 1:
        return raw[:place] + BYTES[rng.integers(len(BYTES))] + raw[place:]
    if kind == 2:
        return raw[:place] + bytes(rng.integers(0, 256, 1 + int(rng.integers(8)), dtype=np.uint8)) + raw[place + 4 :]
    if kind == 3:
        return raw[:place] + raw[place + 1 + int(rng.integers(20)) :]
    return raw[:place] + raw[: int(rng.integers(200))] + raw[place:]


def mutated_json(raw, rng):
    """Exchange a value for one of another kind, or drop a key; sometimes only bytes."""
    if rng.random() < 0.3:
        return mutated_bytes(raw, rng)
    record = json.loads(raw)
    for _ in range(1 + int(rng.integers(3))):
        places = list(containers(record))
        where = places[rng.integers(len(places))]
        keys = list(where) if isinstance(where, dict) else list(range(len(where)))
        if not keys:
            continue
        key = keys[rng.integers(len(keys))]
        if rng.random() < 0.25:
            del where[key]
        else:
            where[key] = deepcopy(ODD[rng.integers(len(ODD))])
    return json.dumps(record).encode()


def containers(value):
    """Yield all lists and dicts within a json."""
    if isinstance(value, (dict, list)):
        yield value
        for inner in list(value.values() if isinstance(value, dict) else value):
            yield from containers(inner)


def survives(path, read, mutated=mutated_bytes, folder=False):
    """Damage a file 200 times; return how often it was refused, by a message with its name or that of its folder."""
    raw, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    read()
    for i in range(MUTATIONS):
        path.write_bytes(mutated(raw, rng))
        said = None
        try:
            read()
        except UnicodeError as error:
            pytest.fail(f"mutation {i}: {error}")
        except (ValueError, FileNotFoundError) as error:
            said = str(error)
        except Exception as error:
            pytest.fail(f"mutation {i}: {type(error).__name__}: {str(error)[:300]}")
        assert said is None or path.name in said or (folder and str(path.parent) in said), (i, said)
        refused += said is not None
    path.write_bytes(raw)
    return refused
