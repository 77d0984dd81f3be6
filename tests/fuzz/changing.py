"""Changes to whole things: bytes, trees of plain data as JSON and TOML hold them, and boxes with lengths.

All take a `random.Random`, so that a seed gives the same input each time.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from random import Random
from typing import Any

Tree = Any
LONG = "9" * 5000
NUMBERS = (0, 1, -1, 2**31 - 1, 2**31, -(2**31) - 1, 2**63, 2**64, 10**400, 0.0, -0.0, 1e-320, 1e308, 0.5)
TEXTS = ("", " ", "\0", "a\nb", "\x1b[2J\x9b31m", "\u202eabc", "../../x", "/etc/passwd", "é" * 3000, "x" * 70_000,
         "\ud800", "\\udce9", "=1+1", "<script>", "nan", "-1", "ort:cuda", "con")  # fmt: skip
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def changed_bytes(rng: Random, data: bytes, keep: int = 0) -> bytes:
    """One to four changes, none of them in the first `keep` bytes."""
    body = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(keep, max(keep + 1, len(body)))
        length = min(rng.choice((1, 2, 4, 16, 200)), max(0, len(body) - at))
        match rng.randrange(8):
            case 0 if at < len(body):
                body[at] ^= 1 << rng.randrange(8)
            case 1:
                body[at : at + length] = rng.randbytes(length)
            case 2:
                del body[at : at + length]
            case 3:
                body[at:at] = body[max(0, at - length) : at]
            case 4:
                body[at:at] = rng.randbytes(length)
            case 5:
                del body[at:]
            case 6 if len(body) >= at + 4:
                struct.pack_into(rng.choice("<>") + "I", body, at, rng.choice(EXTREMES))
            case _ if len(body) >= at + 2:
                struct.pack_into(rng.choice("<>") + "H", body, at, rng.choice(EXTREMES) & 0xFFFF)
            case _:
                body += rng.randbytes(8)
    return bytes(body)


def changed_tree(rng: Random, tree: Tree) -> Tree:
    """A copy of dictionaries and lists in which one to three places have another value, or none."""
    tree = json.loads(json.dumps(tree))
    for _ in range(rng.randint(1, 3)):
        tree = _change_at(rng, tree)
    return tree


def _change_at(rng: Random, tree: Tree) -> Tree:
    place, inner = None, tree
    while isinstance(inner, (dict, list)) and inner and (place is None or rng.random() < 0.8):
        key = rng.choice(list(inner)) if isinstance(inner, dict) else rng.randrange(len(inner))
        place, inner = (inner, key), inner[key]
    if place is None:
        return _other(rng, tree)
    holder, key = place
    match rng.randrange(7):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[rng.choice((*TEXTS, str(key) + "x"))] = holder.pop(key)
        case 2 if isinstance(holder, list):
            holder[key:key] = [inner] * rng.choice((1, 2, 300))
        case _:
            holder[key] = _other(rng, inner)
    return tree


def _other(rng: Random, value: Tree) -> Tree:
    if isinstance(value, bool | int | float) and rng.random() < 0.6:
        return rng.choice(NUMBERS)
    if isinstance(value, str) and rng.random() < 0.6:
        changed = list(value or "x")
        changed[rng.randrange(len(changed))] = rng.choice("\0\x7f\u009bé/'\"\\ 7")
        return rng.choice((*TEXTS, "".join(changed), value * 2, value[: len(value) // 2]))
    return rng.choice((None, True, [], {}, [value], {"": value}, [[value] * 3] * 3, *NUMBERS, *TEXTS))


def as_json(rng: Random, tree: Tree) -> bytes:
    """`tree` as JSON; one in four is no good JSON."""
    text = json.dumps(tree, ensure_ascii=rng.random() < 0.5)
    match rng.randrange(40):
        case 0:
            text = text.replace("1", LONG, 1)
        case 1:
            text = text.replace(": ", ": " + "[" * rng.choice((10, 1000, 200_000)), 1)
        case 2:
            text = text.replace("0.", "NaN", 1)
        case 3:
            text += text
        case 4:
            text = "\ufeff" + text
        case 5:
            return text.encode("utf-16", "surrogatepass")
        case 6 | 7 | 8:
            return changed_bytes(rng, text.encode("utf-8", "surrogatepass"))
        case _:
            pass
    return text.encode("utf-8", "surrogatepass")


def as_toml(rng: Random, tables: dict[str, dict[str, Any]]) -> bytes:
    """Tables as TOML, in which some lines are no good."""
    lines = []
    for name, table in tables.items():
        lines.append(f"[{name}]")
        lines += [f"{json.dumps(str(key))} = {_toml(value)}" for key, value in table.items()]
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        odd = (
            "x = " + "[" * 5000,
            f"x = {LONG}",
            "[",
            "x = 1979-13-45",
            "x.y = {a",
            "[[finetune]]",
            '"',
            "\0",
        )
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(odd))
    data = "\n".join(lines).encode("utf-8", "surrogatepass")
    return changed_bytes(rng, data) if rng.random() < 0.2 else data


def _toml(value: Tree) -> str:
    if isinstance(value, bool) or value is None:
        return str(bool(value)).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {_toml(one)}" for key, one in value.items()) + "}"
    return json.dumps(value)


def changed_boxes(rng: Random, data: bytes, start: int, box: Callable[[bytes, int], int]) -> bytes:
    """Parts of a file that follow each other are removed, doubled, exchanged, or changed inside.

    `box` tells how long the part is that begins at a place; 0 ends the list.
    """
    parts, at = [], start
    while at < len(data) and (length := box(data, at)) > 0:
        parts.append(data[at : at + length])
        at += length
    rest = data[at:]
    if not parts:
        return changed_bytes(rng, data)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(parts))
        match rng.randrange(5):
            case 0 if len(parts) > 1:
                del parts[place]
            case 1:
                parts[place:place] = [parts[place]] * rng.choice((1, 3, 2000 if len(parts[place]) < 200 else 2))
            case 2:
                other = rng.randrange(len(parts))
                parts[place], parts[other] = parts[other], parts[place]
            case _:
                parts[place] = changed_bytes(rng, parts[place], keep=0 if rng.random() < 0.2 else 8)
    return data[:start] + b"".join(parts) + rest


def png_chunk(data: bytes, at: int) -> int:
    return 12 + int.from_bytes(data[at : at + 4], "big")


def jpeg_segment(data: bytes, at: int) -> int:
    """Up to the first scan, which is one part with all that follows it."""
    if data[at] != 0xFF:
        return 0
    return len(data) - at if data[at + 1] == 0xDA else 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def mp4_box(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")


def riff_chunk(data: bytes, at: int) -> int:
    length = int.from_bytes(data[at + 4 : at + 8], "little")
    return 8 + length + length % 2
