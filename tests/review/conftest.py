"""A page to review on, served by this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from review_support import Serve

from toolchain.camera.sinks.web import Address
from toolchain.review.items import collected
from toolchain.review.server import ReviewPage
from toolchain.review.session import Review
from toolchain.system.progress import Reporter, Silent


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve the review of a collected folder until the test ends."""
    with ExitStack() as stack:

        def start(
            folder: Path,
            into: Path | None,
            host: str = "127.0.0.1",
            token: str | None = None,
            reporter: Reporter | None = None,
        ) -> tuple[ReviewPage, Review]:
            review = Review(folder, collected(folder, Silent()), into, Silent())
            page = ReviewPage(review, Address(host, 0), token=token, reporter=reporter or Silent())
            return stack.enter_context(page), review

        yield start
