# SPDX-License-Identifier: Apache-2.0
"""
Time variants of a network against each other, each in a process of its own.

A process of its own gives every variant its own environment, memory and peak. They take turns, so that other load of
the machine falls on all of them. A variant is defined by the bundle's configs: the same keys, overlays and options as
on the command line.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parents[1]
WARM_UP, FEWEST, MOST = 1, 3, 15  # rounds
PAUSE = 0.1  # seconds, for the threads of the turn before that still spin
# as the released code computes: attention as matrix products with a softmax, weights in NCHW, glibc's usual memory
RELEASED_ENVIRONMENT = {"TIMM_FUSED_ATTN": "0"}
RELEASED_OPTIONS = {"memory_format": "$torch.contiguous_format", "keep_memory#_disabled_": True}


def own_process() -> dict[str, str]:
    """Environment of a process that imports this package with ``python -m`` or ``-c``."""
    path = [str(SCRIPTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


@dataclass(frozen=True)
class Variant:
    """
    How one process prepares its network.

    Args:
        work: ``"inference"``, a forward pass of inference.json, or ``"training"``, a step of train.json.
        overlays: files below ``bundle/configs``.
        options: keys of the config, by their path.
        released: as the released code computes: weights in NCHW, attention as matrix products with a softmax, glibc's
            usual memory, no mixed precision.
        threads: that PyTorch computes with. Defaults to 0: as many as it chooses.
    """

    work: str = "inference"
    overlays: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    released: bool = False
    threads: int = 0


@dataclass
class Timing:
    """Seconds of every turn after the warm-up, and the largest memory of the process so far in MB."""

    seconds: list[float]
    peak: float

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the distance of the quartiles."""
        low, _, high = statistics.quantiles(self.seconds, n=4)
        return (high - low) / 2


class Workers:
    """
    The processes of some variants.

    Args:
        variants: by name.
    """

    def __init__(self, variants: dict[str, Variant]) -> None:
        self.processes = {}
        for name, variant in variants.items():
            environment = {**own_process(), **(RELEASED_ENVIRONMENT if variant.released else {})}
            command = [sys.executable, "-W", "ignore", "-m", "benchmarks.stopwatch", json.dumps(asdict(variant))]
            self.processes[name] = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )

    def wait(self) -> None:
        """Return when all are ready."""
        for name in self.processes:
            self._answer(name)

    def take_turns(self, batch: int, size: int, seconds: float) -> dict[str, Timing]:
        """
        Args:
            batch: number of images in a forward pass.
            size: height and width.
            seconds: about how long all rounds together may take; at least three are made.
        """
        turns: dict[str, list[tuple[float, float]]] = {name: [] for name in self.processes}
        started, rounds = time.perf_counter(), 0
        while rounds < WARM_UP + FEWEST or (rounds < MOST and time.perf_counter() - started < seconds):
            for name, process in self.processes.items():
                assert process.stdin is not None
                time.sleep(PAUSE)
                with contextlib.suppress(BrokenPipeError):  # the answer below says so
                    process.stdin.write(json.dumps([batch, size]) + "\n")
                    process.stdin.flush()
                turns[name].append(self._answer(name))
            rounds += 1
        return {name: Timing([seconds for seconds, _ in turn[WARM_UP:]], turn[-1][1]) for name, turn in turns.items()}

    def _answer(self, name: str) -> Any:
        out = self.processes[name].stdout
        assert out is not None
        line = out.readline()
        if not line:
            raise RuntimeError(f"{name} stopped: out of memory, or for the reason above.")
        return json.loads(line)

    def stop(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


@contextlib.contextmanager
def start(variants: dict[str, Variant]) -> Iterator[Workers]:
    """Start workers, and stop them at the end of the ``with`` block."""
    workers = Workers(variants)
    try:
        workers.wait()
        yield workers
    finally:
        workers.stop()


def prepare(variant: Variant) -> Callable[[Any], None]:
    """Build the network; returns what is timed, for a batch of images."""
    import torch
    from common.bundle import read_config

    torch.manual_seed(0)
    if variant.threads:
        torch.set_num_threads(variant.threads)
    training = variant.work == "training"
    files = ["train.json" if training else "inference.json", *variant.overlays]
    parser = read_config(files, {**(RELEASED_OPTIONS if variant.released else {}), **variant.options})

    parser.get_parsed_content("keep_memory")
    network = parser.get_parsed_content("network")
    device = torch.device(parser.get_parsed_content("device"))
    mixed = device.type == "cuda" and not variant.released
    named = mixed and training and "amp_kwargs" in parser["train#trainer"]
    kind = parser.get_parsed_content("train#trainer#amp_kwargs") if named else {}
    inferer = parser.get_parsed_content("train#inferer" if training else "inferer")

    def predict(images: Any) -> None:
        with torch.no_grad(), torch.autocast(device.type, enabled=mixed, **kind):
            inferer(images, network)

    if not training:
        network.eval()
        return predict

    network.train()
    step = torch.compile(network) if parser.get_parsed_content("compile") else network
    loss, optimizer = (parser.get_parsed_content(name) for name in ("loss", "optimizer"))
    scaler = torch.amp.GradScaler(device.type, enabled=mixed)

    def train(images: Any) -> None:
        labels = (images[:, :1] > 0.5).float()
        optimizer.zero_grad()
        with torch.autocast(device.type, enabled=mixed, **kind):
            value = loss(inferer(images, step), labels)
        scaler.scale(value).backward()
        scaler.step(optimizer)
        scaler.update()

    return train


def peak() -> float:
    """The largest resident memory of this process so far in MB."""
    with contextlib.suppress(OSError):  # ru_maxrss would start at the memory of the process that started this one
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def serve(variant: Variant) -> None:
    """Read batch and size, do the work once, print seconds and the peak so far; until the input ends."""
    import torch

    work = prepare(variant)
    cuda = torch.cuda.is_available()
    print(json.dumps("ready"), flush=True)
    images, last = torch.empty(0), None
    for line in sys.stdin:
        if line != last:
            batch, size = json.loads(line)
            images, last = torch.rand(batch, 3, size, size, device="cuda" if cuda else "cpu"), line
        started = time.perf_counter()
        work(images)
        if cuda:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - started
        print(json.dumps([seconds, torch.cuda.max_memory_allocated() / 1e6 if cuda else peak()]), flush=True)


if __name__ == "__main__":
    serve(Variant(**json.loads(sys.argv[1])))
