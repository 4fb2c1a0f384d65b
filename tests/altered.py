"""Values and bytes altered at random, as the fuzz of every kind of file draws them."""

from __future__ import annotations

import copy

ODD = [
    None, True, False, 0, 1, -1, 2, 10**30, -(10**400), 0.5, -0.5, 1e308, float("nan"), float("inf"), "", "x", "neck",
    "../../x", "/dev/zero", "\x1b[2J", "\ud800", "a" * 5000, [], [[]], {}, {"name": "neck"}, [1, 2], [1, 2, 3],
    ["identity", "identity"], ["vflip"], [{"name": "a", "channels": 1, "grid": [1, 1], "stride": 1}], "laplace", "zstd",
]  # fmt: skip


def places(value, path=()):
    """Paths of all values within a JSON value."""
    yield path
    for key, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(part, (*path, key))


def edited(value, draw):
    """A copy of a JSON value with one to three values replaced, removed, renamed, doubled or nested."""
    value = copy.deepcopy(value)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        path = draw.choice([place for place in places(value) if place] or [()])
        if not path:
            return value
        parent = value
        for step in path[:-1]:
            parent = parent[step]
        key, action = path[-1], draw.randrange(6)
        if action == 0:
            del parent[key]
        elif action == 1 and isinstance(parent, dict):
            parent[draw.choice(("neck", "p3", "a" * 300, "../x", str(key) + "x", str(key)[:-1]))] = parent.pop(key)
        elif action == 2:
            parent[key] = [copy.deepcopy(parent[key])] * draw.randrange(1, 4)
        elif action == 3 and type(parent[key]) in (int, float):
            parent[key] = parent[key] + draw.choice((-1, 1, -4, 8, 1 << 33))
        elif action == 4:
            nested: object = 1
            for _ in range(draw.choice((10, 70, 300))):
                nested = [nested]
            parent[key] = nested
            return value
        else:
            parent[key] = copy.deepcopy(draw.choice(ODD))
    return value


def damaged(data, draw):
    """Bytes with a bit flipped, cut off, prolonged, a stretch overwritten, or a stretch left out."""
    place, action = draw.randrange(len(data)), draw.randrange(6)
    if action == 0:
        return data[:place]
    if action == 1:
        return data + draw.randbytes(draw.randrange(1, 40))
    if action == 2:
        return data[:place] + draw.randbytes(8) + data[place + 8 :]
    if action == 3:
        return data[:place] + data[place + draw.randrange(1, 40) :]
    return data[:place] + bytes([data[place] ^ 1 << draw.randrange(8)]) + data[place + 1 :]
