#!/usr/bin/env python3
"""Small things for ci/demo that are awkward in bash; see each function."""

import json
import os
import random
import sys


def make_files(folder, count):
    """A tree of `count` files of 0 B to 64 KiB, most of them small; the same at each call."""
    draw = random.Random(1)
    total = 0
    for number in range(int(count)):
        path = os.path.join(folder, f"folder{number % 40:02d}", f"file{number:04d}")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        size = int(65536 * draw.random() ** 2)
        with open(path, "wb") as file:
            file.write(draw.randbytes(size))
        total += size
    print(f"{count} files, {total >> 20} MiB")


def nbd_socket():
    """`gabion dev status --output=json` on stdin -> the Unix socket of the first SDC."""
    daemons = json.load(sys.stdin)["daemons"]
    print(next(daemon["nbd_socket"] for daemon in daemons if daemon["nbd_socket"]))


def pool_used():
    """`gabion status --output=json` on stdin -> bytes used in all pools."""
    print(sum(int(pool["used_bytes"]) for pool in json.load(sys.stdin)["pools"]))


def fio_summary(path):
    """A result of fio -> one line for people."""
    with open(path) as file:
        text = file.read()
    # fio may print warnings before the object.
    job = json.loads(text[text.index("{"):])["jobs"][0]
    write = job["write"]
    longest = write["clat_ns"]["max"] / 1e9
    print(f"{write['io_bytes'] >> 20} MiB in {write['total_ios']} writes, none failed; "
          f"the longest took {longest:.2f} s")


if __name__ == "__main__":
    {
        "make-files": make_files,
        "nbd-socket": nbd_socket,
        "pool-used": pool_used,
        "fio-summary": fio_summary,
    }[sys.argv[1]](*sys.argv[2:])
