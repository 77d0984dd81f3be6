"""Masking of secrets in addresses and pipelines that a person typed. They would appear in logs and on pages.

Scheme, host, port and a path of harmless characters are shown. Anything else may be a password and is masked.
Cameras take passwords in more places than URLs have for them (`/user=me_password=...`, `;pwd=...`), and people type
them with characters that should be percent-encoded (`#`, `?`, `/`, `@`). So only what is known to be harmless is
shown, and the host is masked too if it is not certain which part it is.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

MASK = "***"

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,3}(.*)", re.DOTALL)
_HOST = re.compile(r"([A-Za-z0-9_][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(:\d{0,5})?")
_SEGMENT = re.compile(r"[A-Za-z0-9._-]*")
_TELLING = re.compile(r"(?i)pass|pwd|\bpw|token|secret|key|auth|login|user|admin|credential|session|sign?ature")
"""Words in a path after which a password may follow."""
_RANDOM = re.compile(r"(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]{12,}")
_KEYS_IN_PATH = ("rtmp", "rtmps", "rtmpt")
"""Schemes whose path ends with the key of the stream."""

_ADDRESS_IN_TEXT = re.compile(r"(?<![\w+.-])[A-Za-z][A-Za-z0-9+.-]+:/\S+")
_USER_IN_TEXT = re.compile(r"[^\s'\"]*:[^\s'\"]*@[^\s'\"]*")
_VALUE_IN_TEXT = re.compile(
    r"(?i)((?:[\w.-]*(?:pass|pwd|token|secret|credential|authorization)[\w.-]*|[\w.-]*\bpw)\s*=\s*)"
    r"(\"[^\"]*\"|'[^']*'|[^\s'\"]+)"
)
_AFTER = ".,:;!?'\"()[]"
"""Punctuation that may follow an address in a sentence and does not belong to it."""
SHOWN = 300
_LONG_WORD = re.compile(r"\S{1000,}")
"""No address and no name of a file, but what somebody wrote in the place of a name. The patterns would take the
square of its length to look through it, so its beginning is shown."""
MIN_SECRET = 8
"""Shorter secrets are not looked for in texts: they may be part of any word."""


class Readable(str):
    """A text that `masked` leaves as it is, because it must be read whole: the address of edgetl's own page."""

    __slots__ = ()


def shown(word: str) -> str:
    """What may be shown of `word`: an address, a GStreamer pipeline, or either of them with a typing error.

    Other words stay as they are, unless something in them looks like a password.
    """
    if is_pipeline(word):
        first = word.split(maxsplit=1)[0]
        return f"pipeline {first}" if re.fullmatch(r"[A-Za-z0-9_]+", first) else "pipeline"
    if found := _ADDRESS.fullmatch(word):
        return _shown_address(found[1], found[2], word)
    return masked(word)


def is_pipeline(word: str) -> bool:
    """Whether `word` is GStreamer elements joined by `!`. Names of files may hold `!` too, but no `=` or `:/`."""
    return " ! " in word or ("!" in word and ("=" in word or ":/" in word))


def is_address(word: str) -> bool:
    """Whether `word` is an address, a pipeline, or something with a password in it, rather than the name of a file.

    `Path` turns the two slashes of an address into one (`rtsp:/host`); that counts as an address too.
    """
    return bool(_ADDRESS.fullmatch(word)) or shown(word) != word


def masked(text: str) -> str:
    """`text` with addresses, user names and passwords masked, and with typed words as `remember` masked them."""
    if isinstance(text, Readable):
        return text
    text = _LONG_WORD.sub(lambda found: f"{found[0][:SHOWN]}…", without_typed(text))
    text = _ADDRESS_IN_TEXT.sub(_mask_address, text)
    text = _VALUE_IN_TEXT.sub(rf"\1{MASK}", text)
    return _USER_IN_TEXT.sub(_mask_user, text)


def command(words: Sequence[str]) -> str:
    """The command line of `words`, ready to be typed again except for what is masked in it."""
    return shlex.join(word if os.path.lexists(word) else shown(word) for word in words)


_typed: tuple[tuple[str, str], ...] = ()


def remember(words: Iterable[str], secrets: Iterable[str] = ()) -> None:
    """Tell `masked` what was typed, so that it recognises these words again, whatever characters are in them and
    however they were quoted since. `secrets` are masked wherever they occur. Replaces what was remembered before.
    """
    global _typed
    found: dict[str, str] = {}
    for word in words:
        values = [word, word.partition("=")[2]] if word.startswith("--") and "=" in word else [word]
        for value in values:
            mask = value if os.path.lexists(value) else shown(value)
            if mask != value:
                found |= dict.fromkeys(_variants(value), mask)
    for secret in secrets:
        if len(secret) >= MIN_SECRET:
            found |= dict.fromkeys(_variants(secret), MASK)
    _typed = tuple(sorted(found.items(), key=lambda pair: -len(pair[0])))


def without_typed(text: str) -> str:
    """`text` with the remembered words masked, and nothing else."""
    for word, mask in _typed:
        text = text.replace(word, mask)
    return text


def _variants(word: str) -> set[str]:
    """`word` as it is, as a path, as Python, JSON and the shell quote it, and each with runs of spaces joined."""
    forms = {word, str(Path(word)), os.path.normpath(word)}
    quoted = {repr(form)[1:-1] for form in forms} | {json.dumps(form)[1:-1] for form in forms}
    quoted |= {json.dumps(form, ensure_ascii=False)[1:-1] for form in forms} | {shlex.quote(form) for form in forms}
    return {variant for form in forms | quoted for variant in (form, " ".join(form.split())) if variant}


def _shown_address(scheme: str, rest: str, whole: str) -> str:
    if not rest:
        return whole  # the name of a scheme
    if scheme.lower() == "file" and whole.partition(":")[2].startswith("///"):
        return whole  # a path of this machine
    authority, tail = _split(rest)
    if "@" not in tail:
        place = authority.rpartition("@")[2]
        return f"{scheme}://{place}{_shown_tail(scheme, tail)}" if _HOST.fullmatch(place) else f"{scheme}://{MASK}"
    # Either a character of the password cut the authority short, or there is an @ in the path or the query. It is
    # certainly the former only if what comes before it cannot be a host.
    before, _, after = rest.partition("@")
    place, tail = _split(after)
    certain = ":" in authority and not _HOST.fullmatch(authority) and rest.count("@") == 1 and "=" not in before
    if certain and _HOST.fullmatch(place) and (tail.startswith("/") or "." in place or ":" in place):
        return f"{scheme}://{place}{_shown_tail(scheme, tail)}"
    return f"{scheme}://{MASK}"


def _split(rest: str) -> tuple[str, str]:
    """The authority, and the path with everything after it."""
    end = re.search(r"[/?#\\]", rest)
    return (rest[: end.start()], rest[end.start() :]) if end else (rest, "")


def _shown_tail(scheme: str, tail: str) -> str:
    found = re.fullmatch(r"([^?#]*)([?#]?)(.*)", tail, re.DOTALL)
    assert found
    path, mark, query = found.groups()
    kept: list[str] = []
    segments = path.split("/")
    for number, segment in enumerate(segments):
        is_key = scheme.lower() in _KEYS_IN_PATH and number == len(segments) - 1 and segment
        if is_key or not _SEGMENT.fullmatch(segment) or _TELLING.search(segment) or _RANDOM.search(segment):
            return "/".join([*kept, MASK])
        kept.append(segment)
    return "/".join(kept) + (f"{mark}{MASK}" if query else "")


def _mask_address(found: re.Match[str]) -> str:
    whole, after = _without_punctuation(found[0])
    return found[0] if _is_file(found) else shown(whole) + after


def _is_file(found: re.Match[str]) -> bool:
    """Whether the word that ends with `found` names a file in a folder such as `photos:`, existing or not."""
    word, _ = _without_punctuation(found.string[: found.end()].split()[-1])
    if "//" in word or "@" in word:
        return False
    folder = Path(word).parent
    return os.path.lexists(word) or (folder != Path() and os.path.lexists(f"{folder}/"))


def _mask_user(found: re.Match[str]) -> str:
    whole, after = _without_punctuation(found[0])
    if _ADDRESS.match(whole):
        return found[0]  # is masked already
    place, tail = _split(whole.rpartition("@")[2])
    certain = whole.count("@") == 1 and "=" not in whole and _HOST.fullmatch(place)
    return f"{MASK}@{place}{_shown_tail('', tail)}{after}" if certain else MASK + after


def _without_punctuation(text: str) -> tuple[str, str]:
    whole = text.rstrip(_AFTER)
    return whole, text[len(whole) :]
