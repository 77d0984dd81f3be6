"""The ideal picture of a class: noise, changed by gradient ascent into what a network takes for it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType

import numpy as np
import torch
from torch import Tensor, nn

from toolchain.explain.ideal.painting import Parametrisation, Pixels, Waves
from toolchain.explain.ideal.robustness import Robustness, robustness
from toolchain.explain.pictures import as_png, framed
from toolchain.explain.torch_model import TorchModel
from toolchain.images.preprocess import Image, decode
from toolchain.system.progress import Reporter

OTHERS = 0.5
"""How much the logits of all other classes together count against that of the class."""
RATES = {"fourier": 0.05, "pixels": 0.1}
STEADY = 0.6
"""The share of the steps after which the steps become smaller, until they are nothing."""
BLUR_EVERY = 4
NOISE = 0.02
FRAMES = 24
MAX_DISTANCE = 100.0
"""A channel that photographs hardly ever change would outweigh all others."""


@dataclass(frozen=True)
class IdealSettings:
    """How the picture is made.

    `octaves` are the sizes at which the network looks at it, one after the other, as shares of its own input. Each
    step it looks at another view: moved by up to `jitter` of the side, turned by up to `turn` degrees, zoomed by up
    to `zoom`. `variation` weighs the differences of neighbouring pixels, `natural` how far the statistics of the
    network's maps are from those of photographs. Beyond `window` halves of its side the picture fades to grey
    (0: nowhere). `blur` is in pixels, for `pixels` alone: waves are smooth.
    """

    steps: int = 240
    seed: int = 0
    parametrisation: Parametrisation = "fourier"
    octaves: tuple[float, ...] = (0.5, 0.72, 1.0)
    variation: float = 40.0
    natural: float = 15.0
    blur: float = 0.5
    window: float = 0.0
    jitter: float = 0.1
    turn: float = 10.0
    zoom: float = 0.15


@dataclass(frozen=True)
class Ideal:
    """The ideal picture of a class, uint8 RGB of the network's size, and how it came about.

    `loss` and `logit` have a value for each step, of the view that the network saw. `frames` show the descent,
    `frame_steps` after how many steps. It took so many `seconds`.
    """

    label: str
    class_index: int
    picture: Image
    robustness: Robustness
    loss: tuple[float, ...]
    logit: tuple[float, ...]
    frames: tuple[Image, ...]
    frame_steps: tuple[int, ...]
    seconds: float = 0.0


def ideals(
    subject: TorchModel, class_indices: Sequence[int], settings: IdealSettings, reporter: Reporter
) -> list[Ideal]:
    """Make the ideal pictures of several classes, each once."""
    wanted = list(dict.fromkeys(class_indices))
    with reporter.task("drawing", len(wanted) * settings.steps) as task:

        def tell(label: str, logit: float) -> None:
            task.advance(1, f"{label}, logit {logit:.0f}")

        return [ideal(subject, index, settings, partial(tell, subject.labels[index])) for index in wanted]


def ideal(
    subject: TorchModel,
    class_index: int,
    settings: IdealSettings | None = None,
    told: Callable[[float], None] = lambda logit: None,
) -> Ideal:
    """Make the ideal picture of a class. The same settings give the same picture on the same machine.

    `told` is called after each step with the logit of the class.
    """
    start = time.perf_counter()
    settings = settings or IdealSettings()
    generator = torch.Generator().manual_seed(_seed(settings.seed, class_index))
    height, width = subject.preprocess.height, subject.preprocess.width
    painting: Waves | Pixels
    if settings.parametrisation == "fourier":
        painting = Waves(height, width, generator, settings.window)
    else:
        painting = Pixels(height, width, generator, settings.window)
    optimiser = torch.optim.Adam(painting.parameters(), RATES[settings.parametrisation])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step / settings.steps))
    shown_at = {round(share * settings.steps) for share in np.linspace(0, 1, FRAMES)}
    losses, logits, frames = [], [], {}
    with BatchNormDistance(subject.network) as batchnorm:
        for step in range(settings.steps):
            picture = painting()
            if step in shown_at:
                frames[step] = _as_image(picture)
            view = _view(picture, settings, step, generator)
            answer = subject.logits(255 * view.permute(0, 2, 3, 1))[0]
            loss = _loss(answer, class_index) + settings.variation * _variation(picture)
            loss = loss + settings.natural * batchnorm.distance()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            if isinstance(painting, Pixels) and settings.blur and step % BLUR_EVERY == 0:
                painting.blur(settings.blur)
            losses.append(float(loss.detach()))
            logits.append(float(answer[class_index].detach()))
            told(logits[-1])
    frames[settings.steps] = final = _as_image(painting())
    png = as_png(framed(final, subject.preprocess))
    measured = robustness(subject, subject.preprocess(decode(png)), class_index)
    return Ideal(
        subject.labels[class_index],
        class_index,
        final,
        measured,
        tuple(losses),
        tuple(logits),
        tuple(frames.values()),
        tuple(frames),
        time.perf_counter() - start,
    )


def _seed(seed: int, class_index: int) -> int:
    """So that a class has the same picture whichever others are made beside it."""
    return int(np.random.SeedSequence([seed, class_index]).generate_state(1)[0])


def _rate(share: float) -> float:
    if share < STEADY:
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (share - STEADY) / (1 - STEADY)))


def _loss(logits: Tensor, class_index: int) -> Tensor:
    others = torch.cat([logits[:class_index], logits[class_index + 1 :]])
    return OTHERS * others.logsumexp(0) - logits[class_index]


def _variation(picture: Tensor) -> Tensor:
    """Mean absolute difference of neighbours, down and across (Rudin, Osher, Fatemi 1992, as a sum of the two)."""
    down = (picture[:, :, 1:] - picture[:, :, :-1]).abs().mean()
    across = (picture[..., 1:] - picture[..., :-1]).abs().mean()
    return down + across


def _view(picture: Tensor, settings: IdealSettings, step: int, generator: torch.Generator) -> Tensor:
    """What the network sees of `picture` [1, 3, height, width] in a step: turned, zoomed, moved, at its octave."""
    octave = settings.octaves[step * len(settings.octaves) // settings.steps]
    height, width = (max(32, round(octave * side)) for side in picture.shape[2:])
    turn, zoom, right, down = (2 * torch.rand(4, generator=generator) - 1).tolist()
    angle, scale = math.radians(settings.turn * turn), 1 + settings.zoom * zoom
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    places = torch.tensor(
        [[[cosine, -sine, 2 * settings.jitter * right], [sine, cosine, 2 * settings.jitter * down]]]
    )
    grid = nn.functional.affine_grid(places, [1, 3, height, width], align_corners=False)
    seen = nn.functional.grid_sample(picture, grid, padding_mode="reflection", align_corners=False)
    return seen + NOISE * torch.randn(seen.shape, generator=generator)


@torch.no_grad()
def _as_image(picture: Tensor) -> Image:
    image: Image = (255 * picture[0].permute(1, 2, 0)).round().to(torch.uint8).numpy()
    return image


class BatchNormDistance:
    """Within `with`, compares the maps that enter each BatchNorm of a network with its mean and variance.

    Yin et al.: *Dreaming to Distill*, CVPR 2020. A network without BatchNorm (VGG) remembers nothing: distance 0.
    """

    def __init__(self, network: nn.Module) -> None:
        self._layers = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        self._distances: list[Tensor] = []

    def __enter__(self) -> BatchNormDistance:
        self._handles = [layer.register_forward_hook(self._compare) for layer in self._layers]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def distance(self) -> Tensor:
        """The mean over layers for what went through the network since the last call, a scalar, 0 or more."""
        found, self._distances = self._distances, []
        return torch.stack(found).mean() if found else torch.zeros(())

    def _compare(self, layer: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        assert isinstance(layer, nn.BatchNorm2d)
        assert layer.running_mean is not None
        assert layer.running_var is not None
        (maps,) = inputs
        usual = layer.running_var + 1e-3 * layer.running_var.mean()
        mean, variance = maps.mean((0, 2, 3)), maps.var((0, 2, 3), unbiased=False)
        shift = ((mean - layer.running_mean) ** 2 / usual).clamp(max=MAX_DISTANCE)
        spread = ((variance / usual + 1e-6).sqrt() - 1).square().clamp(max=MAX_DISTANCE)
        self._distances.append(shift.mean() + spread.mean())
