"""Train and export from Python: `python train.py PHOTOS RUN`; PHOTOS holds a folder for each class."""

import sys

import toolchain

photos, folder = sys.argv[1:]
try:
    run = toolchain.finetune(photos, folder, weights="ready-made", probe_only=True, seed=0)
    done = toolchain.export(folder, openvino=True)
except toolchain.EdgetlError as error:
    sys.exit(f"{error.message}\n{error.hint}")
test = run.metrics["test"]
print(f"{test.top1:.3f} of {test.n} test photographs are named rightly")
for hop in done.float_hops:
    print(f"{done.float_file} on {hop.device}: agreement with PyTorch {hop.accuracy.agreement:.3f}")
