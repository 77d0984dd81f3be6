"""The camera on a page: for devices without a screen, and for everybody else who wants to look."""

from __future__ import annotations

from toolchain.camera.sinks.web.view import Address, WebView, parse_address

__all__ = ["Address", "WebView", "parse_address"]
