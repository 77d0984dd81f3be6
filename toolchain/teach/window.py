"""The lesson in a window: keys choose a thing, record a take of it, and train."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from toolchain.camera.answering import Answered
from toolchain.camera.drawing import draw, fit, size_for, write_bar
from toolchain.camera.loop import Control
from toolchain.camera.sinks.window import Window
from toolchain.errors import BadInputError
from toolchain.system.progress import Reporter
from toolchain.teach.lesson import Lesson, State, headline, readable

KEYS = (
    "1 to 9, up, down: choose a thing, space: start and stop a take, Enter: name one more thing, t: train, "
    "u: undo the last take, q: end"
)
NAMING = "Enter: add it, Escape: do not"


class TeachWindow(Window):
    """Shows what the camera sees, what is to be done, and what the taught network answers.

    Raises MissingError if there is no display.
    """

    def __init__(self, lesson: Lesson, control: Control, reporter: Reporter) -> None:
        super().__init__(control, reporter)
        self._lesson = lesson
        self._chosen = 0
        self._new: str | None = None
        """The name of a thing that is being typed."""
        self._refused = ""
        """Why nothing came of the last key."""
        self._size: tuple[int, int] | None = None
        self._answered: Answered | None = None
        reporter.say(KEYS)

    def show(self, answered: Answered) -> None:
        self._answered = answered
        self._put(answered, "")

    def idle(self, state: str) -> None:
        if state and self._answered is not None:
            self._put(self._answered, f"Not live: {state}")
        else:
            self._handle_keys()

    def _put(self, answered: Answered, outage: str) -> None:
        bgr = answered.frame.bgr
        self._size = self._size or size_for(*bgr.shape[:2])
        picture = fit(bgr, *self._size)
        picture = picture.copy() if picture is bgr else picture
        state = self._lesson.state()
        if answered.network and state.phase != "recording":
            draw(picture, answered)
        if self._new is not None:
            write_bar(picture, f"One more thing: {self._new}_", NAMING)
        else:
            wrong = self._refused or outage
            write_bar(picture, wrong or headline(state), self._listed(state), doubtful=bool(wrong or state.trouble))
        self.put(picture)

    def _draw_region(self, event: Any) -> None:
        """The mouse does nothing: the whole picture is taught and answered."""

    def _typed(self, event: Any) -> None:
        pygame = self._pygame
        if self._new is None:
            if event.type == pygame.KEYDOWN:
                self._refused = ""
            super()._typed(event)
        elif event.type == pygame.TEXTINPUT:
            self._new += event.text
        elif event.key == pygame.K_BACKSPACE:
            self._new = self._new[:-1]
        elif event.key == pygame.K_ESCAPE:
            self._new = None
        elif event.key in (pygame.K_RETURN, pygame.K_KP_ENTER):
            name, self._new = self._new.strip(), None
            if name:
                self._try(lambda: self._choose(self._lesson.album.things.index(self._lesson.add(name))))

    def _actions(self) -> dict[int, Callable[[], None]]:
        pygame = self._pygame
        numbers = {pygame.K_1 + place: partial(self._choose, place) for place in range(9)}
        return numbers | {
            pygame.K_q: self._quit,
            pygame.K_ESCAPE: self._quit,
            pygame.K_UP: lambda: self._choose(self._chosen - 1),
            pygame.K_DOWN: lambda: self._choose(self._chosen + 1),
            pygame.K_SPACE: self._take,
            pygame.K_RETURN: self._begin_name,
            pygame.K_KP_ENTER: self._begin_name,
            pygame.K_t: lambda: self._try(self._lesson.teach),
            pygame.K_u: lambda: self._try(lambda: self._lesson.forget_take(self._name())),
        }

    def _choose(self, place: int) -> None:
        if 0 <= place < len(self._lesson.album.things):
            self._chosen = place

    def _begin_name(self) -> None:
        self._new = ""

    def _name(self) -> str:
        return self._lesson.album.things[self._chosen]

    def _take(self) -> None:
        if self._lesson.state().phase == "recording":
            self._lesson.stop_take()
        else:
            self._try(lambda: self._lesson.start_take(self._name()))

    def _try(self, act: Callable[[], object]) -> None:
        try:
            act()
        except BadInputError as error:
            self._refused = error.message
            self._reporter.warn(f"{error.message}. {error.hint}")

    def _listed(self, state: State) -> str:
        """The things with their counts, from the one before the chosen one on, which stands in brackets."""
        parts = []
        for place, thing in list(enumerate(state.things))[max(0, self._chosen - 1) :]:
            text = f"{place + 1} {readable(thing.name)} {thing.pictures}"
            parts.append(f"[{text}]" if place == self._chosen else text)
        return "   ".join(parts)
