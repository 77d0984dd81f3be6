"""Self-contained HTML pages in one style: light and dark, sortable tables, plots as SVG."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from toolchain.system import files


def write_page(
    path: Path, template: Path, content: Mapping[str, Any], filters: Mapping[str, Callable[..., Any]]
) -> None:
    """Fill the Jinja `template` with `content`, and write the page to `path`, whole or not at all.

    Everything but `markupsafe.Markup` is escaped. Names of files need not be valid Unicode.
    """
    environment = Environment(
        loader=FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {**filters, "json": as_json}
    files.write_bytes(
        path, environment.get_template(template.name).render(content).encode("utf-8", "backslashreplace")
    )


def as_json(value: Any) -> str:
    """`value` for a reader: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
