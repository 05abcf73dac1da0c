from __future__ import annotations

import json
from pathlib import Path

from selfalign.config import validate_config
from selfalign.identity import hash_weights
from tests.checks.synthetic import make_run
from tests.cli.test_commands import selfalign


def test_a_reward_model_from_a_runs_pairs(tmp_path: Path) -> None:
    run = make_run(tmp_path, prompts=30)
    config = {"name": "made", "seed": 11, "model": str((tmp_path / "model").resolve()), "rounds": 1}
    run.save_config(validate_config(config, "made"))
    done = selfalign("reward", "made", "--output", "rm", "--set", "held_out=0.4", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["weights_hash"] == hash_weights(tmp_path / "rm")
    assert report["n_examples"] + report["n_held_out"] > 0
    assert sorted(path.name for path in tmp_path.glob(".rm*")) == []
    other = selfalign("reward", str(run.path), "--output", str(run.path), cwd=tmp_path)
    assert (other.returncode, "holds other things" in other.stderr) == (2, True)
    for arguments, expected in [
        (["--round", "7"], "no pairs in rounds 7"),
        (["--set", "lr=1"], "known: learning_rate"),
    ]:
        wrong = selfalign("reward", "made", "--output", "x", *arguments, cwd=tmp_path)
        assert (wrong.returncode, expected in wrong.stderr) == (2, True)
        assert not (tmp_path / "x").exists()
