"""A whole run whose training candidates a server answers."""

from __future__ import annotations

import json

from tests.e2e.project import Project
from tests.endpoints.server import Say, chat_server, completion


def test_a_run_on_another_models_answers(project: Project) -> None:
    words = ("Eleven geese.", "No.", "We see three trees, here.")
    trouble = Say({"error": "busy"}, 503)
    with chat_server(
        lambda number, body: (
            trouble if number % 4 == 3 else Say(completion(words[body["seed"] % 3] + f" {body['seed']}"))
        )
    ) as server:
        engine = {
            "id": "openai", "base_url": server.url, "model": "teacher", "off_policy": True, "logprobs": False,
            "first_delay_seconds": 0, "cache": "replies", "own": {"id": "transformers", "max_rows": 6},
        }  # fmt: skip
        generate = {"candidates": 3, "temperature": 1.0, "top_p": 1.0, "max_tokens": 40, "engine": engine}
        judge = {
            "id": "weighted",
            "members": [{"id": "verifier", "weight": 1.0}, {"id": "rubric_logits", "weight": 0.5}],
        }
        project.write(rounds=1, generate=generate, judge=judge, evaluate={"log_ratio": True})
        planned = json.loads(project.selfalign("plan", "run.yaml", "--json").stdout)
        assert [engine["engine"] for engine in planned["engines"]] == ["openai", "transformers"]
        assert server.requests == []
        done = project.selfalign("run", "run.yaml")
    assert done.returncode == 0, done.stderr + done.stdout
    rows = project.sql("select split, engine, weights_hash, count(*) n from candidates group by all order by all")
    hashes = project.sql("select weights_hash from rounds order by round")
    assert [
        (row["split"], row["engine"], row["weights_hash"], row["n"]) for row in rows if row["split"] == "train"
    ] == [("train", "openai", "served:teacher", 18)]
    own = [row for row in rows if row["split"] == "held_out"]
    assert {row["weights_hash"] for row in own} == {row["weights_hash"] for row in hashes}
    assert {row["engine"] for row in own} == {"transformers"}
    # Every sample was asked for once, but for those that the server did not answer.
    failed = len(server.requests) // 4
    assert len(server.requests) - failed == 18
    assert project.sql("select count(*) n from pairs")[0]["n"] > 0
    verified = project.selfalign("verify", "runs/tiny")
    assert verified.returncode == 0, verified.stdout
