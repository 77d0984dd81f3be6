"""What holds for all texts, documents and amounts, tried on those that hypothesis finds."""

from __future__ import annotations

import csv
import io
import json
import re
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from toolchain.datasets.quarantine import is_inside
from toolchain.images import encoded
from toolchain.images.picture_size import claimed_pixels
from toolchain.system import files, masking
from toolchain.system.text import harmless, harmless_cell, harmless_markdown

TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=60)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
HEADS = (b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF0000WEBP", b"II*\0")
FEW = settings(max_examples=60, deadline=None, derandomize=True)


@FEW
@given(TEXT)
def test_no_text_steers_a_terminal(text: str) -> None:
    shown = harmless(text)
    assert not STEERING.search(shown)
    assert harmless(shown) == shown
    shown.encode()
    assert not STEERING.search(harmless(masking.masked(text)))


@FEW
@given(TEXT)
def test_markdown_has_no_html_no_link_and_no_further_column(text: str) -> None:
    line = harmless_markdown(text)
    assert "<" not in line
    assert "](" not in line
    assert "|" not in line.replace("\\|", "")
    assert "\n" not in line


def test_a_command_in_markdown_reads_as_it_is_typed_and_an_entity_stays_text() -> None:
    assert harmless_markdown("pip uninstall a && pip install b") == "pip uninstall a && pip install b"
    assert harmless_markdown("&lt;b> &#60;b>") == "&amp;lt;b> &amp;#60;b>"


@FEW
@given(st.text(max_size=30))
def test_no_cell_is_a_formula_and_each_is_read_back(text: str) -> None:
    cell = harmless_cell(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerow([cell, "end"])
    [[found, _]] = csv.reader(io.StringIO(buffer.getvalue(), newline=""))
    assert found.removeprefix("'") in (text, text.removeprefix("'"))


@FEW
@given(PLAIN)
def test_a_document_is_read_back_as_it_was_and_steers_no_terminal(document: Any) -> None:
    data = files.to_json({"value": document})
    assert not STEERING.search(data.decode().replace("\n", ""))
    json.loads(data)
    assert files.from_json(data, dict[str, Any])["value"] == document


@FEW
@given(
    st.binary(max_size=400),
    st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF0000WEBP", b"II*\0"]),
)
def test_any_bytes_are_looked_at_without_an_error(data: bytes, head: bytes) -> None:
    data = head + data
    assert claimed_pixels(data) >= 0
    assert encoded.scans_of(data) >= 0
    assert encoded.is_truncated(data) in (True, False)
    assert encoded.kind_of(data[: encoded.HEAD_BYTES]).name
    encoded.turns_of(data)


@FEW
@given(st.lists(st.sampled_from(["..", ".", "inner", "out", "link", "x"]), min_size=1, max_size=6))
def test_what_is_inside_is_inside(parts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, outside = Path(name) / "data", Path(name) / "outside"
        (folder / "inner").mkdir(parents=True)
        outside.mkdir()
        (folder / "out").symlink_to(outside)
        (folder / "link").symlink_to("inner")
        path = "/".join(parts)
        if is_inside(folder, path):
            assert (folder / path).parent.resolve().is_relative_to(folder)
        assert not is_inside(folder, "out/x")
        assert is_inside(folder, "link/x")
