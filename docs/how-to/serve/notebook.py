# %%
import os

import toolchain
from toolchain.cli import run

classifier = toolchain.load(os.environ["MODEL"])

# %%
prediction = classifier.predict(os.environ["PHOTOGRAPH"])
prediction.label, round(prediction.probability, 2)

# %%
# What the command line says, in a cell.
run(["predict", os.environ["MODEL"], os.environ["PHOTOGRAPH"], "--json"])
