"""The ideal picture of a class: noise, changed by gradient ascent (activation maximisation) until it shows it."""

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

from toolchain.explain.ideal.parametrisation import FourierImage, Parametrisation, PixelImage
from toolchain.explain.pictures import as_jpeg, as_png, framed
from toolchain.explain.torch_model import TorchModel
from toolchain.images.preprocess import Image, decode
from toolchain.system.progress import Reporter

OTHERS = 0.5
"""The weight of all other classes' logits (their logsumexp) against the logit of the class."""
LEARNING_RATES = {"fourier": 0.05, "pixels": 0.1}
DECAY_FROM = 0.6
"""The learning rate falls to 0 after this share of the steps."""
BLUR_EVERY = 4
EDGES_EVERY = 4
"""In one of so many steps what lies around the picture is its edge, repeated; in the others its mirror image."""
NOISE = 0.02
FRAMES = 24
MAX_DISTANCE = 100.0
"""Of one channel. A channel that hardly varies on photographs would outweigh all others."""
SHIFT_PIXELS = 5
SHIFTS = tuple((down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if (down, right) != (0, 0))


@dataclass(frozen=True)
class IdealSettings:
    """How the picture is made.

    `octaves` are the sizes at which the network looks at the picture, one after the other, as fractions of its
    input. In each step it looks at another view: a part of the picture, of 1 - `zoom` of the side or more, or the
    picture and up to `zoom` / 2 more around it; moved by up to `jitter` of the side, a part to any place; rotated
    by up to `turn` degrees. `variation` is the weight of the total variation, `natural` that of the
    distance to the statistics of photographs. Beyond `window` halves of its side the picture fades to grey (0: it
    does not fade). `blur`, in pixels, is for the parametrisation `pixels` alone.
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
    zoom: float = 0.3


@dataclass(frozen=True)
class Robustness:
    """Probabilities of the class: for the picture itself, after JPEG of quality 90 and 75, after a move by 5
    pixels, and after both. Of the eight directions of a move, the one with the lowest probability counts.
    """

    probability: float
    jpeg90: float
    jpeg75: float
    shifted: float
    shifted_jpeg90: float
    shifted_jpeg75: float


@dataclass(frozen=True)
class Ideal:
    """The ideal picture of a class, uint8 RGB in the size of the network's input, and how it came about.

    `saved` is what its file holds: preprocessing turns it into `picture`, which may need a border.
    `loss` and `logit` have a value for each step, of the view that the network saw. `frames` show the picture after
    `frame_steps` steps. `seconds` is how long it took.
    """

    label: str
    class_index: int
    picture: Image
    saved: Image
    robustness: Robustness
    loss: tuple[float, ...]
    logit: tuple[float, ...]
    frames: tuple[Image, ...]
    frame_steps: tuple[int, ...]
    seconds: float = 0.0


def ideals(
    model: TorchModel, class_indices: Sequence[int], settings: IdealSettings, reporter: Reporter
) -> list[Ideal]:
    """Make the ideal pictures of several classes; a class that is named twice is made once."""
    wanted = list(dict.fromkeys(class_indices))
    with reporter.task("drawing", len(wanted) * settings.steps) as task:

        def tell(label: str, logit: float) -> None:
            task.advance(1, f"{label}, logit {logit:.0f}")

        return [ideal(model, index, settings, partial(tell, model.labels[index])) for index in wanted]


def ideal(
    model: TorchModel,
    class_index: int,
    settings: IdealSettings | None = None,
    on_step: Callable[[float], None] = lambda logit: None,
) -> Ideal:
    """Make the ideal picture of a class. The same settings give the same picture on the same machine.

    `on_step` is called with the logit of the class after each step.
    """
    start = time.perf_counter()
    settings = settings or IdealSettings()
    generator = torch.Generator().manual_seed(_seed(settings.seed, class_index))
    height, width = model.preprocess.height, model.preprocess.width
    painting: FourierImage | PixelImage
    if settings.parametrisation == "fourier":
        painting = FourierImage(height, width, generator, settings.window)
    else:
        painting = PixelImage(height, width, generator, settings.window)
    optimiser = torch.optim.Adam(painting.parameters(), LEARNING_RATES[settings.parametrisation])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _decay(step / settings.steps))
    shown_at = {round(share * settings.steps) for share in np.linspace(0, 1, FRAMES)}
    losses, logits, frames = [], [], {}
    with BatchNormDistance(model.network) as batchnorm:
        for step in range(settings.steps):
            picture = painting()
            if step in shown_at:
                frames[step] = _as_image(picture)
            view = _view(picture, settings, step, generator)
            answer = model.logits(255 * view.permute(0, 2, 3, 1))[0]
            loss = _loss(answer, class_index) + settings.variation * _total_variation(picture)
            loss = loss + settings.natural * batchnorm.distance()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            if isinstance(painting, PixelImage) and settings.blur and step % BLUR_EVERY == 0:
                painting.blur(settings.blur)
            losses.append(float(loss.detach()))
            logits.append(float(answer[class_index].detach()))
            on_step(logits[-1])
    frames[settings.steps] = final = _as_image(painting())
    saved = framed(final, model.preprocess)
    measured = robustness(model, model.preprocess(decode(as_png(saved))), class_index)
    return Ideal(
        model.labels[class_index],
        class_index,
        final,
        saved,
        measured,
        tuple(losses),
        tuple(logits),
        tuple(frames.values()),
        tuple(frames),
        time.perf_counter() - start,
    )


def _seed(seed: int, class_index: int) -> int:
    """A seed for each class: its picture does not depend on the other classes that are asked for."""
    return int(np.random.SeedSequence([seed, class_index]).generate_state(1)[0])


def _decay(share: float) -> float:
    if share < DECAY_FROM:
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (share - DECAY_FROM) / (1 - DECAY_FROM)))


def _loss(logits: Tensor, class_index: int) -> Tensor:
    others = torch.cat([logits[:class_index], logits[class_index + 1 :]])
    return OTHERS * others.logsumexp(0) - logits[class_index]


def _total_variation(picture: Tensor) -> Tensor:
    """Total variation: mean absolute difference of neighbours, down and across (Rudin, Osher, Fatemi, 1992)."""
    down = (picture[:, :, 1:] - picture[:, :, :-1]).abs().mean()
    across = (picture[..., 1:] - picture[..., :-1]).abs().mean()
    return down + across


def _view(picture: Tensor, settings: IdealSettings, step: int, generator: torch.Generator) -> Tensor:
    """The view of `picture` [1, 3, height, width] in a step: rotated, zoomed, moved, in the size of its octave."""
    octave = settings.octaves[step * len(settings.octaves) // settings.steps]
    height, width = (max(32, round(octave * side)) for side in picture.shape[2:])
    share, *draws = torch.rand(4, generator=generator).tolist()
    turn, right, down = (2 * draw - 1 for draw in draws)
    angle, scale = math.radians(settings.turn * turn), 1 - settings.zoom * (1 - 1.5 * share)
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    farthest = max(2 * settings.jitter, 1 - scale)
    places = torch.tensor([[[cosine, -sine, farthest * right], [sine, cosine, farthest * down]]])
    grid = nn.functional.affine_grid(places, [1, 3, height, width], align_corners=False)
    around = "reflection" if step % EDGES_EVERY else "border"
    seen = nn.functional.grid_sample(picture, grid, padding_mode=around, align_corners=False)
    return seen + NOISE * torch.randn(seen.shape, generator=generator)


@torch.no_grad()
def _as_image(picture: Tensor) -> Image:
    image: Image = (255 * picture[0].permute(1, 2, 0)).round().to(torch.uint8).numpy()
    return image


class BatchNormDistance:
    """How far the feature maps of a picture are from those of photographs, by BatchNorm's running statistics.

    Within `with`, it compares the input of each BatchNorm layer with the layer's running mean and variance
    (Yin et al.: *Dreaming to Distill*, CVPR 2020). Without BatchNorm, as in VGG, the distance is 0.
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
        """The mean over layers, for what went through the network since the last call; a scalar, 0 or more."""
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


@torch.inference_mode()
def robustness(model: TorchModel, picture: Image, class_index: int) -> Robustness:
    """Measure the robustness of `picture`, uint8 RGB in the size of the network's input."""
    moved = [shifted(picture, SHIFT_PIXELS * down, SHIFT_PIXELS * right) for down, right in SHIFTS]

    def least(pictures: list[Image]) -> float:
        return float(model.probabilities(torch.from_numpy(np.stack(pictures)))[:, class_index].min())

    return Robustness(
        probability=least([picture]),
        jpeg90=least([as_jpeg(picture, 90)]),
        jpeg75=least([as_jpeg(picture, 75)]),
        shifted=least(moved),
        shifted_jpeg90=least([as_jpeg(one, 90) for one in moved]),
        shifted_jpeg75=least([as_jpeg(one, 75) for one in moved]),
    )


def shifted(picture: Image, down: int, right: int) -> Image:
    """`picture` moved by so many pixels; the rows and columns at its edge are repeated."""
    height, width = picture.shape[:2]
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    return np.ascontiguousarray(picture[rows][:, columns])
