"""`/metrics` of the page: figures that Prometheus reads, for those who may see the page."""

from __future__ import annotations

import re

from tests.web_support import answer, ask, view

TOKEN = "a-token-of-enough-letters"
SAMPLE = re.compile(r'(edgetl_[a-z_]+)(\{(?:[a-z_]+="(?:[^"\\\n]|\\.)*",?)+\})? (-?[0-9.]+(?:e-?[0-9]+)?)')


def _figures(body: bytes) -> dict[str, float]:
    """Each sample by its name and labels. Fails on a line that is none, or that has no TYPE before it."""
    found: dict[str, float] = {}
    typed: set[str] = set()
    for line in body.decode().splitlines():
        if line.startswith("# TYPE "):
            typed.add(line.split()[2])
        elif not line.startswith("# HELP "):
            sample = SAMPLE.fullmatch(line)
            assert sample, line
            name, labels, value = sample.groups()
            assert name in typed or re.sub("_(bucket|sum|count)$", "", name) in typed
            assert name + (labels or "") not in found
            found[name + (labels or "")] = float(value)
    return found


def test_what_was_answered_is_counted() -> None:
    with view() as shown:
        response, body = ask(shown, "/metrics")
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        empty = _figures(body)
        assert empty["edgetl_answer_changes_total"] == empty["edgetl_frame_age_seconds_count"] == 0
        for number, label in enumerate(["cat", "cat", 'd"o\\g\n']):
            shown.show(answer(number, label=label))
        shown.show(answer(9, label="cat", rejected=True))
        figures = _figures(ask(shown, "/metrics")[1])
        shown.idle("camera 0 gave no frame (3 s)")
        lost = _figures(ask(shown, "/metrics")[1])
    assert figures['edgetl_answers_total{label="cat"}'] == 2
    assert figures['edgetl_answers_total{label="d\\"o\\\\g\\n"}'] == 1
    assert figures['edgetl_answers_total{label=""}'] == figures['edgetl_answer{label=""}'] == 1
    assert figures["edgetl_answer_changes_total"] == 2
    assert figures["edgetl_frames_total"] == 10
    assert figures["edgetl_probability"] == 0.75
    assert figures["edgetl_frame_age_seconds_count"] == 4
    assert figures['edgetl_frame_age_seconds_bucket{le="0.025"}'] == 0
    assert figures['edgetl_frame_age_seconds_bucket{le="0.05"}'] == 4
    assert figures['edgetl_inference_seconds_bucket{le="+Inf"}'] == 4
    assert abs(figures["edgetl_inference_seconds_sum"] - 4 * 0.00525) < 1e-6
    assert figures["edgetl_source_up"] == 1
    assert lost["edgetl_source_up"] == 0
    assert [name for name in figures if 'artifact="model.int8.onnx"' in name and 'version="' in name]


def test_who_may_not_see_the_page_gets_no_figures() -> None:
    with view(token=TOKEN) as shown:
        for headers, status in (
            ({}, 401),
            ({"Authorization": f"Bearer {TOKEN}"}, 200),
            ({"Authorization": "Bearer a-token-that-is-wrong"}, 401),
        ):
            response, body = ask(shown, "/metrics", **headers)
            assert response.status == status
            assert (b"edgetl_" in body) == (status == 200)
    with view() as shown:
        assert ask(shown, "/metrics", Host="evil.example")[0].status == 403
        assert ask(shown, "/metrics", "POST")[0].status == 405
