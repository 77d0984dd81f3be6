# The lesson as cells: docs/make_lesson.py makes docs/tutorial/lesson.ipynb of it.

# %% [markdown]
# # Teaching a network to tell animals apart
#
# You know Python, and nothing of deep learning. At the end of this page you will have taught a network to name what is
# on a photograph, made it small enough for a camera in the garden, looked at what it looks at, and fooled it.
#
# The trick of the whole lesson: **we do not start from nothing.** Somebody has already trained a network on a million
# photographs of a thousand things. It has learned to see edges, fur, ears, wheels. We keep these eyes and only teach it
# new names. That is *transfer learning*; it takes seconds and a few dozen photographs of each class.
#
# Run the cells from top to bottom. If the Oxford-IIIT Pets are on this machine (`EDGETL_DATA`), the lesson is about
# real cats and dogs; if not, edgetl draws some animals, and everything works the same.

# %%
import os
import shutil
import time
from pathlib import Path
from tempfile import mkdtemp

import matplotlib.pyplot as plt
import numpy as np

import toolchain
from toolchain.datasets.catalogue import DATASETS, data_root, open_dataset
from toolchain.images.preprocess import Preprocess, read
from toolchain.runs.ready_made import ready_made_weights

SCRATCH = Path(mkdtemp(prefix="edgetl-lesson-"))


def show(pictures, titles=(), columns=6, size=2.2):
    rows = -(-len(pictures) // columns)
    figure, places = plt.subplots(rows, columns, figsize=(size * columns, size * rows + 0.3), squeeze=False)
    for place in places.flat:
        place.axis("off")
    for place, picture in zip(places.flat, pictures, strict=False):
        place.imshow(picture)
    for place, title in zip(places.flat, titles, strict=False):
        place.set_title(title, fontsize=9)
    figure.tight_layout()
    plt.show()


# %% [markdown]
# ## 1. The photographs
#
# A data set is a folder of photographs for each class. edgetl divides it: from `train` the network learns, on `val` we
# make our choices, `calibration` is for int8 later, and **`test` is looked at once, at the end**. A network that is
# judged on what it learned from is like a pupil who knows the exam.

# %%
REAL = DATASETS.get("pets").find(data_root()) is not None
DATA = "pets" if REAL else "drawn-pets"
# Drawn animals are learned from the network of breeds that comes with edgetl, so that nothing is downloaded.
WEIGHTS = os.environ.get("EDGETL_WEIGHTS", "imagenet") if REAL else str(ready_made_weights())

dataset = open_dataset(DATA)
classes = dataset.classes
print(f"{DATA}: {len(classes)} classes")
print({split: len(photos) for split, photos in dataset.splits.items()})

train, test = dataset.splits["train"], dataset.splits["test"]
one_each = [next(photo for photo in train if photo.label == label) for label in range(min(len(classes), 12))]
show([read(photo.path) for photo in one_each], [classes[photo.label] for photo in one_each])

# %% [markdown]
# ## 2. Broken pictures first
#
# Downloads break off, and people save web pages as `cat.jpg`. One such file can cost a night of training, so we look
# before we train. Here is a small folder into which we put two broken files and a leak: a training photograph that is
# also in `test`. The check finds them, and moves them aside. (At the terminal: `edgetl data check FOLDER --fix`.)

# %%
from toolchain.datasets.quarantine import restore, move_out, movable
from toolchain.datasets.check import check
from toolchain.datasets.folder import list_folder

messy = SCRATCH / "messy"
for split, photos in (("train", train), ("test", test)):
    for label in (0, 1):
        folder = messy / split / classes[label]
        folder.mkdir(parents=True)
        for photo in [photo for photo in photos if photo.label == label][:5]:
            shutil.copy(photo.path, folder / photo.path.name)

victims = sorted((messy / "train" / classes[0]).iterdir())
victims[0].write_bytes(victims[0].read_bytes()[:3000])
victims[1].write_text("<html>404 not found</html>")
leaked = next((messy / "test" / classes[1]).iterdir())
shutil.copy(leaked, messy / "train" / classes[1] / f"copy-{leaked.name}")

listing = list_folder(messy)
moved = movable(listing, check(listing))
for one in moved:
    print(f"{one.name}: {one.reason}")
record = move_out(listing, moved)
print("sound now:", check(list_folder(messy)).is_sound)

# %% [markdown]
# Nothing was deleted. A record says what was where, and `restore(record)` undoes it.

# %%
print("put back:", len(restore(record)), "files")

# %% [markdown]
# ## 3. What a network sees
#
# A network is a pile of layers. Each makes a stack of *maps* out of the maps before it: the first ones light up at
# edges and colours, later ones at things like eyes and fur, the last ones at whole heads. Later maps are coarser and
# there are more of them. Here are the strongest maps of some layers for one photograph.

# %%
from toolchain.backbones.networks import build
from toolchain.backbones.weights import load_pretrained
from toolchain.explain.features import features, sheet

look = Preprocess()
photograph = read(test[0].path)
picture = look(photograph)

network = build("mobilenet_v2", len(classes))
load_pretrained(network, "mobilenet_v2", WEIGHTS)
network.eval()

show([photograph, picture], [classes[test[0].label], "what the network gets: 224 x 224"], columns=2, size=3)
for maps in features(network, picture, top=6):
    print(f"{maps.layer.name}: {maps.layer.channels} maps of {maps.layer.height} x {maps.layer.width}")
    plt.figure(figsize=(10, 2.2))
    plt.imshow(sheet(maps))
    plt.axis("off")
    plt.show()

# %% [markdown]
# There are bigger networks and smaller ones. The lesson this page grew out of used VGG-16; a MobileNet does the same
# with a sixth of the weights and a fiftieth of the arithmetic. *MACs* are multiplications for one photograph.

# %%
from toolchain.backbones import recipes

print(f"{'network':20} {'weights':>9} {'MACs':>10} {'file':>9}   right, 37 breeds")
for name in recipes.names():
    recipe = recipes.load(name)
    top1 = recipe.measured.pets_probe_top1
    print(
        f"{name:20} {recipe.network.parameters / 1e6:7.1f} M {recipe.network.macs / 1e6:8,.0f} M "
        f"{recipe.network.size_mb:6.1f} MB   {'' if top1 is None else f'{top1:.3f}'}"
    )

# %% [markdown]
# ## 4. Features once, then a small head
#
# Throw the last layer of the network away. What is left turns a photograph into 1280 numbers, its *features*: the mean
# of each of the last maps. We compute them **once** for all photographs. On top we put a new last layer, the *head*:
# one weight for each feature and class. To fit it takes a second, because the photographs are not needed any more.
#
# This is called a *linear probe*. The eyes are frozen; only the names are new.

# %%
import torch

from toolchain.backbones.networks import body_of
from toolchain.images.reader import Reader
from toolchain.system.progress import Silent
from toolchain.training.features import Frozen, features_of, labels_of
from toolchain.training.probe import fit_head

body = Frozen(body_of(network), (224, 224), torch.device("cpu"), pooled=True)
extract = body.extractor(many=len(train) + len(test), exact=True)
decoded = Reader(look, None, Silent())

started = time.perf_counter()
seen = {split: features_of(dataset.splits[split], extract, decoded, Silent(), split) for split in ("train", "val")}
print(f"features of {len(seen['train'])} photographs: {seen['train'].shape}, {time.perf_counter() - started:.1f} s")

started = time.perf_counter()
weight, bias = fit_head(seen["train"], labels_of(train), len(classes))
answers = (seen["val"] @ weight.T + bias).argmax(1)
print(f"head: {weight.shape}, {time.perf_counter() - started:.1f} s")
print(
    f"right on val: {(answers == labels_of(dataset.splits['val'])).mean():.3f}; by chance: {1 / len(classes):.3f}"
)

# %% [markdown]
# Features are points in a space of 1280 dimensions. Pressed flat onto the two directions in which they differ most,
# classes that the network tells apart are clouds.

# %%
centred = seen["train"] - seen["train"].mean(0)
directions = np.linalg.svd(centred, full_matrices=False)[2][:2]
flat = centred @ directions.T
plt.figure(figsize=(6, 5))
for label in range(min(len(classes), 6)):
    rows = labels_of(train) == label
    plt.scatter(*flat[rows].T, s=9, label=classes[label])
plt.legend(fontsize=8)
plt.title("features of training photographs, two directions of 1280")
plt.show()

# %% [markdown]
# ## 5. Frozen, then unfrozen
#
# `finetune` does what we just did, and goes on: with the head in place, it *unfreezes* the last blocks of the network
# and lets them change a little, too. The order matters. A head of random numbers would send nonsense back through the
# network and wreck the eyes before it has learned anything. Judge for yourself: the second run starts like that.
#
# Each pass over the photographs is an *epoch*; every time the network sees other crops of them, mirrored and in other
# light (*augmentation*), so that it cannot learn them by heart.

# %%
from toolchain.training.finetune import finetune
from toolchain.training.records import read_lines
from toolchain.training.settings import settings_for

recipe = recipes.load("mobilenet_v2")
gentle = settings_for(DATA, "mobilenet_v2", recipe, weights=WEIGHTS, epochs=2)
rough = settings_for(DATA, "mobilenet_v2", recipe, weights=WEIGHTS, epochs=2, head_init="random")

RUN = SCRATCH / "run"
run = finetune(gentle, RUN)
finetune(rough, SCRATCH / "rough")
print("kept:", run.model.kept, " seconds:", run.timings_s)

plt.figure(figsize=(6, 3.5))
for folder, name in ((RUN, "head from the probe"), (SCRATCH / "rough", "head of random numbers")):
    lines = read_lines(folder)
    plt.plot([line["epoch"] for line in lines], [line["val_top1"] for line in lines], "o-", label=name)
plt.axhline(run.probe_metrics["val"].top1, color="grey", linestyle=":", label="linear probe alone")
plt.xticks([1, 2])
plt.xlabel("epoch")
plt.ylabel("right on val")
plt.legend(fontsize=8)
plt.show()

# %% [markdown]
# More tricks are options of the same function (`dropout`, `optimizer`, `schedule`, `max_grad_norm`, `batch_norm`,
# `label_smoothing`, `patience` ...); [the guide](guide.md) explains each, and says what it was worth on the pets.
#
# Now, once, the test photographs. Each row of the square is what a class was; each column is what it was called.

# %%
metrics = run.metrics["test"]
print(
    f"test: {metrics.top1:.3f} of {metrics.n} right (a standard error of {(0.25 / metrics.n) ** 0.5:.3f} at most)"
)
plt.figure(figsize=(6, 5))
plt.imshow(metrics.confusion, cmap="viridis")
plt.xlabel("was called")
plt.ylabel("was")
if len(classes) <= 12:
    plt.xticks(range(len(classes)), classes, rotation=60, fontsize=8)
    plt.yticks(range(len(classes)), classes, fontsize=8)
plt.show()

# %% [markdown]
# ## 6. Saved, in one file that any program can open
#
# The run's folder already holds the network (`model.safetensors`) and a report. To *deploy* it we write ONNX: weights,
# names, and how to prepare a photograph, in one file. `int8` is the same network with whole numbers from -128 to 127
# instead of fractions: a third of the size, faster, and checked to be right as often (within a bound).

# %%
from toolchain.artifact import find_artifact
from toolchain.export.exporting import export
from toolchain.export.results import QuantizationSettings as Int8

done = export(RUN, int8=Int8(max_drop_pp=2.0, min_speed_up=0))
for path in sorted(RUN.glob("model*.onnx")):
    print(f"{path.name:24} {path.stat().st_size / 1e6:5.1f} MB")
print("promises broken:", done.broken or "none")

classifier = toolchain.load(find_artifact(RUN))
some = test[:: max(len(test) // 12, 1)][:12]
predictions = [classifier.predict(photo.path) for photo in some]
show(
    [read(photo.path) for photo in some],
    [
        f"{found.label} {found.probability:.0%}" + ("" if found.label == classes[photo.label] else " (wrong)")
        for found, photo in zip(predictions, some, strict=True)
    ],
)

# %% [markdown]
# A network always answers *something*. Whether it should be believed is told by `rejected`: the photograph looks like
# none of the classes.

# %%
noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
stripes = np.tile(np.uint8(255) * (np.arange(224) // 8 % 2)[None, :, None].astype(np.uint8), (224, 1, 3))
found = [classifier.predict(picture) for picture in (noise, stripes)]
show([noise, stripes], [f"{one.label}? rejected: {one.rejected}" for one in found], columns=2, size=3)

# %% [markdown]
# ## 7. Why did it say that?
#
# Two ways to ask. *Grad-CAM* asks the gradients: which parts of the last maps speak for this name? *Occlusion* asks
# nothing of the inside: it covers one part of the picture after the other, and sees when the answer suffers.

# %%
from toolchain.explain.torch_model import open_model
from toolchain.explain.why import grad_cam, overlay, why

subject = open_model(RUN)
asked = grad_cam.explained(subject)
for photo in some[:2]:
    told = why(asked, read(photo.path))
    show(
        [told.picture, *(overlay(told.picture, one.heat) for one in told.saliency)],
        [f"{told.label} {told.probability:.0%}", *(one.method for one in told.saliency)],
        columns=3,
        size=3,
    )

# %% [markdown]
# ## 8. The ideal cat
#
# Training changes the network until it fits the pictures. Turn it round: keep the network, and change the **picture**,
# step by step, until the network is sure. Done bluntly, pixel by pixel, that gives noise which the network takes for a
# cat. Asked for smooth pictures, seen from many sides, it has to draw what it knows a cat by.

# %%
from toolchain.explain.ideal import IdealSettings as Ideally
from toolchain.explain.ideal import ideal

CAT = next((label for label, name in enumerate(classes) if name in ("Siamese", "cat")), 0)
blunt = Ideally(
    steps=60, parametrisation="pixels", octaves=(1.0,), variation=0, natural=0, blur=0, jitter=0, turn=0, zoom=0
)
started = time.perf_counter()
drawn = [ideal(subject, CAT, settings) for settings in (blunt, Ideally(steps=120))]
print(f"{time.perf_counter() - started:.0f} s")
show(
    [one.picture for one in drawn],
    [
        f"{name}\n{classes[CAT]}: {one.robustness.probability:.2f}, moved by 5 pixels: {one.robustness.shifted:.2f}"
        for name, one in zip(("blunt", "smooth, from many sides"), drawn, strict=True)
    ],
    columns=2,
    size=4,
)
frames = drawn[1].frames
show([frames[index] for index in np.linspace(0, len(frames) - 1, 6).astype(int)])

# %% [markdown]
# ## 9. A dog that is a cat
#
# The same idea, with bad intentions: take a photograph that is named rightly, and change every pixel by **at most 4
# of 255 steps**, so that the network answers what we like. You will not see the difference. The network will.

# %%
from toolchain.explain.attack import attack

victims = [photo for photo in test if photo.label != CAT]
pictures = np.stack([look(read(photo.path)) for photo in victims[:: len(victims) // 6][:6]])
attacked = attack(subject, pictures, 4, target=CAT)
print(f"{attacked.turned.sum()} of {len(pictures)} are now called {classes[CAT]}")
before, after = attacked.before.argmax(1), attacked.after.argmax(1)
show(pictures, [f"{classes[answer]} {p:.0%}" for answer, p in zip(before, attacked.before.max(1), strict=True)])
show(
    attacked.pixels, [f"{classes[answer]} {p:.0%}" for answer, p in zip(after, attacked.after.max(1), strict=True)]
)
show((128 + 20 * attacked.change).clip(0, 255).astype(np.uint8), ["the change, 20 times"] * len(pictures))

# %% [markdown]
# Does the deployed int8 file fall for them, too? It was not asked when they were made.

# %%
fooled = [classifier.predict(picture).label == classes[CAT] for picture in attacked.pixels]
print(f"{find_artifact(RUN).name} is fooled by {sum(fooled)} of {len(fooled)}")

# %% [markdown]
# ## 10. The eyes we borrowed
#
# The network that we started from had names of its own: a thousand things of ImageNet. It can be asked as it was
# published, before we taught it anything. What does it know a **zebra** by, and a **tabby cat**? (Without real
# photographs on this machine, the network of breeds that comes with edgetl draws two of its own.)

# %%
from toolchain.explain.torch_model import published_model

published = published_model("mobilenet_v2", WEIGHTS) if REAL else open_model()
NAMES = ("zebra", "tabby") if REAL else ("Siamese", "pug")
places = [published.labels.index(name) for name in NAMES]
ideal_ones = [ideal(published, place, Ideally(steps=240 if REAL else 60)) for place in places]
print(f"{published.backbone} with {len(published.labels)} classes")
show(
    [one.picture for one in ideal_ones],
    [
        f"{one.label}: {one.robustness.probability:.2f}, moved and as JPEG: {one.robustness.shifted_jpeg90:.2f}"
        for one in ideal_ones
    ],
    columns=2,
    size=4,
)

# %% [markdown]
# And it can be fooled as well as ours: the same photographs, and now the published network is to see that cat.

# %%
CAT_THERE = places[1] if REAL else places[0]
turned = attack(published, pictures, 4, target=CAT_THERE)
named = [(answer.argmax(), answer.max()) for answers in (turned.before, turned.after) for answer in answers]
titles = [f"{published.labels[label]} {share:.0%}" for label, share in named]
show([*pictures, *turned.pixels], titles)
print(f"{turned.turned.sum()} of {len(pictures)} are now called {published.labels[CAT_THERE]}")

# %% [markdown]
# At the terminal: `edgetl adopt mobilenet_v2 --out RUN` makes a run of it, for the camera and all else.
#
# ## 11. Now with your own photographs
#
# Make a folder with a folder for each class, and put its path in the place of `DATA` at the top. Nothing in here knows
# about animals. At the terminal, the whole lesson is:
#
#     edgetl data check PHOTOS --fix
#     edgetl finetune PHOTOS --out RUN
#     edgetl export RUN --int8
#     edgetl bench RUN
#     edgetl camera RUN
#
# [The guide](guide.md) walks through it, with numbers.
