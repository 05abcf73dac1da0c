-- What decided a round's training besides its trainer's settings, which checkpoints.config has.
-- Weights that the training started from. parent_hash is what the round's candidates were sampled and judged by.
-- NULL: the same; written before there was a choice.
ALTER TABLE rounds ADD COLUMN start_hash VARCHAR;
-- JSON: start (previous, base), data (this, all, {"last": n}, {"replay": [shares]}), reference (previous, initial,
-- {"ema": decay}; null where the loss needs none). NULL: as start_hash, or not trained yet.
ALTER TABLE rounds ADD COLUMN policy VARCHAR;
ALTER TABLE archived_rounds ADD COLUMN start_hash VARCHAR;
ALTER TABLE archived_rounds ADD COLUMN policy VARCHAR;

-- A row of an earlier round that a round trained on beside its own.
CREATE TABLE replays (
    replay_id VARCHAR PRIMARY KEY, -- content hash of round, kind and example
    round INTEGER NOT NULL, -- round that trained on it as well
    from_round INTEGER NOT NULL, -- round that made it
    kind VARCHAR NOT NULL CHECK (kind IN ('pair', 'judgement_pair', 'label', 'ranking')), -- and so the table of example_id
    example_id VARCHAR NOT NULL, -- pair_id, label_id or ranking_id
    digest VARCHAR -- as in the other tables
);
CREATE TABLE archived_replays AS SELECT NULL::VARCHAR AS branch, NULL::VARCHAR AS of_stage, * FROM replays LIMIT 0;
