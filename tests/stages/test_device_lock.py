from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from selfalign.progress import Silent
from selfalign.stages import device_lock as module
from selfalign.stages.device_lock import device_lock, gpu_name, visible_gpus

GPUS = ["GPU-aaaa", "GPU-bbbb"]


@pytest.mark.parametrize(
    ("device", "gpus", "expected"),
    [
        ("cpu", GPUS, None),
        ("auto", [], None),
        ("auto", GPUS, "GPU-aaaa"),
        ("cuda", GPUS, "GPU-aaaa"),
        ("cuda:1", GPUS, "GPU-bbbb"),
        ("cuda:3", [], "gpu-3"),
    ],
)
def test_a_device_has_one_name(device: str, gpus: list[str], expected: str | None) -> None:
    assert gpu_name(device, gpus) == expected


def test_one_gpu_has_one_name_however_a_process_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_driver_gpus", lambda: GPUS)
    assert visible_gpus({}) == GPUS
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "1"}) == ["GPU-bbbb"]
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "GPU-bb,0"}) == ["GPU-bbbb", "GPU-aaaa"]
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": ""}) == []
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "0,-1,1"}) == ["GPU-aaaa"]


def _hold(folder: Path, held: Any) -> None:
    with device_lock("cuda:0", Silent(), folder):
        held.set()
        signal.pause()


class Notes(Silent):
    def __init__(self, holder: int) -> None:
        self.said: list[str] = []
        self.holder = holder

    def note(self, message: str) -> None:
        self.said.append(message)
        os.kill(self.holder, signal.SIGKILL)


def test_a_second_run_waits_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    held = spawn.Event()
    first = spawn.Process(target=_hold, args=(tmp_path, held))
    first.start()
    assert held.wait(60)
    with device_lock("cpu", Silent(), tmp_path):
        pass
    notes = Notes(first.pid or 0)
    with device_lock("cuda", notes, tmp_path):
        assert notes.said == [f"waiting for {gpu_name('cuda', visible_gpus())}, in use by pid {first.pid}"]
    first.join()
