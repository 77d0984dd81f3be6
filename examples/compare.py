"""Compare two model files on this machine: `python compare.py old.onnx new.onnx [DEVICE]`."""

import sys

import toolchain

old, new, *device = sys.argv[1:]
report = toolchain.bench(old, new, devices=device or ["ort:cpu"], budget_s=10)
measured = [arm for arm in report.arms if arm.status == "ok"]
for arm in measured:
    top1 = f"top-1 {arm.accuracy.top1:.3f}, " if arm.accuracy else ""
    low, high = arm.latency_ms.p50_ci95
    print(f"{arm.artifact}: {top1}{arm.latency_ms.p50:.2f} ms (95 %: {low:.2f} to {high:.2f})")
if len(measured) == 2:
    before, after = (arm.latency_ms.p50 for arm in measured)
    print(f"the new one is {before / after:.2f} times as fast" + (", on a noisy machine" if report.noisy else ""))
