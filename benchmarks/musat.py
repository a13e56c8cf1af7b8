"""Speed of `musat3` and `musat19` on one core: right-hand sides, whole processes, scaling in N.

    python benchmarks/musat.py

Prints a table. Numbers depend on the machine and its load; ratios within one run are what to read.
"""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"

import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from reduced_dynamics import catalogue
from reduced_dynamics.compilation.compiled import compile_system

ROOT = Path(__file__).resolve().parent.parent


def best(function, repeat=7, least=0.05):
    """Seconds a call, the best of several blocks of at least `least` seconds."""
    function()
    calls = 1
    while True:
        began = time.perf_counter()
        for _ in range(calls):
            function()
        block = time.perf_counter() - began
        if block >= least:
            break
        calls = max(2 * calls, int(calls * least / max(block, 1e-9)))
    blocks = [block / calls]
    for _ in range(repeat - 1):
        began = time.perf_counter()
        for _ in range(calls):
            function()
        blocks.append((time.perf_counter() - began) / calls)
    return min(blocks)


def problem(name, **parameters):
    system = catalogue.system(name)
    values = system.values(parameters)
    functions = compile_system(system, values)
    par = np.array(system.pack(values), dtype=float)
    z = np.random.default_rng(0).normal(size=len(system.names))
    return functions, par, z


def right_hand_sides():
    functions, par, z = problem("musat3", N=1000)
    flow = functions.flow
    micro = 1e6 * best(lambda: flow(0.0, z, par))
    print(f"musat3 right-hand side from Python, N = 1000: {micro:.2f} µs   (goal: at most 1 µs)")
    print("\nmusat19, query last     loss + gradient            Jacobian")
    print(f"{'N':>10} {'s':>12} {'ns per pair':>12} {'s':>12} {'gradients':>10}")
    sizes, times = [], []
    for n in (10**2, 10**3, 10**4, 10**5, 10**6):
        functions, par, z = problem("musat19", N=n)
        out = np.empty(22)
        gradient, jacobian = functions.gradient, functions.jacobian
        one = best(partial(gradient, z, par, out), repeat=3)
        two = best(partial(jacobian, 0.0, z, par), repeat=1, least=0.0)
        sizes.append(n)
        times.append(one)
        print(f"{n:10d} {one:12.3e} {1e9 * one / n:12.1f} {two:12.3e} {two / one:10.1f}")
    slope = np.polyfit(np.log(sizes), np.log(times), 1)[0]
    print(f"slope of log time against log N: {slope:.3f}   (1 is linear; goal at N = 10^4: 60 ns)")


def process(arguments, environment):
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, str(ROOT / "simulate.py"), *arguments],
        check=True,
        capture_output=True,
        env=os.environ | environment,
    )
    return time.perf_counter() - began


def whole_processes():
    print("\nwhole processes                              s      goal")
    with tempfile.TemporaryDirectory() as folder:
        fresh = {"REDUCED_DYNAMICS_CACHE": folder}
        small = ["run", "musat3", "--set", "N=1000"]
        print(f"run musat3 N=1000, the very first time {process(small, fresh):8.2f}      30")
        warm = min(process(small, fresh) for _ in range(3))
        print(f"run musat3 N=1000, warm cache          {warm:8.2f}     1.5")
        large = ["run", "musat19", "--set", "N=10000"]
        process(["run", "musat19", "--set", "N=4"], fresh)
        print(f"run musat19 N=10000, warm cache        {process(large, fresh):8.2f}      60")


if __name__ == "__main__":
    right_hand_sides()
    whole_processes()
