"""The camera on a web page, for devices without a screen and for viewers elsewhere."""

from __future__ import annotations

from toolchain.camera.sinks.web.view import Address, WebOptions, WebView, from_text, parse_address

__all__ = ["Address", "WebOptions", "WebView", "from_text", "parse_address"]
