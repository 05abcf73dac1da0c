-- The store of one run, version 1. Later versions are this file plus migrations/NNNN_name.sql, in order.
-- Only SQL that DuckDB 1.5 and 2.0 share. Times are UTC. JSON is kept as text, byte for byte.
-- Columns of row tables are those of the dataclasses in selfalign/types.py, in the same order (tested);
-- created_at, where a table has one, is the store's own and comes last.
-- candidates and judgements have no PRIMARY KEY: with an index DuckDB rewrites the table at every commit
-- (1.7 s for one more row among 100,000). The only writer, selfalign/store, keeps their ids unique.

-- Which versions of this schema the file has been through.
CREATE TABLE schema_version (
    version INTEGER PRIMARY KEY, -- 1 for this file, then the number of each migration
    applied_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'UTC') -- when this file reached that version
);

-- The run this store belongs to: seed, config, versions; one row.
CREATE TABLE runs (
    run VARCHAR PRIMARY KEY, -- name of the run, as in the config
    seed BIGINT NOT NULL, -- every random choice derives from it
    config VARCHAR NOT NULL, -- the whole validated config as JSON, defaults included
    config_hash VARCHAR NOT NULL, -- content hash of config
    environment VARCHAR NOT NULL, -- versions and hardware as JSON
    version VARCHAR NOT NULL, -- version of selfalign that began the run
    created_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'UTC') -- when the run began
);

-- A round: the weights it started from and ended with, and where it stands.
CREATE TABLE rounds (
    round INTEGER PRIMARY KEY, -- t; round 0 measures M0 and trains nothing
    parent_hash VARCHAR, -- weights that the round started from (M_t-1); NULL for round 0
    weights_hash VARCHAR, -- weights that the round ended with (M_t); NULL until they exist
    trainer VARCHAR, -- registered name of the trainer that made M_t
    reference_hash VARCHAR, -- weights of the frozen reference; NULL where the loss needs none
    status VARCHAR CHECK (status IN ('running', 'done', 'empty', 'failed')), -- where the round stands
    started_at TIMESTAMP, -- first start
    finished_at TIMESTAMP, -- NULL while the round is under way
    detail VARCHAR -- JSON object with whatever else is worth knowing
);

-- The ledger that resuming follows: a stage of a round, its state, rows and seconds.
CREATE TABLE stages (
    round INTEGER NOT NULL, -- round the stage belongs to
    stage VARCHAR NOT NULL, -- prompts, generate, judge, pair, train, answer, evaluate ...
    fingerprint VARCHAR NOT NULL, -- hash of everything that the stage's result depends on
    status VARCHAR NOT NULL CHECK (status IN ('running', 'done', 'empty', 'failed')), -- done: never repeated
    attempt INTEGER NOT NULL, -- 1 for the first start with this fingerprint
    started_at TIMESTAMP NOT NULL, -- start of the last attempt
    finished_at TIMESTAMP, -- end of the last attempt; NULL while it runs, or where it was killed
    seconds DOUBLE, -- duration of all attempts that came to an end
    rows_in BIGINT, -- rows that the stage read
    rows_out BIGINT, -- rows that the stage made
    detail VARCHAR, -- JSON object: figures of the stage, or {"error": ...}
    PRIMARY KEY (round, stage, fingerprint)
);

-- An instruction in a round, with its checkable constraints.
CREATE TABLE prompts (
    prompt_id VARCHAR NOT NULL, -- content hash of the instruction
    round INTEGER NOT NULL, -- round that uses it; held-out prompts are written once, as round 0
    split VARCHAR NOT NULL CHECK (split IN ('train', 'held_out')), -- held_out is never trained on
    text VARCHAR NOT NULL, -- the instruction as written, before any chat template
    language VARCHAR NOT NULL, -- ISO 639-1 code
    category VARCHAR NOT NULL, -- kind of task, for breakdowns
    origin VARCHAR NOT NULL, -- source that yielded it, e.g. a file name or self_instruct
    parent_id VARCHAR, -- prompt that it was made from, if any
    rouge_max DOUBLE, -- highest ROUGE-L to earlier prompts, where the source measured it
    instruction_id_list VARCHAR[] NOT NULL, -- checkable constraints (IFEval ids); empty if there are none
    kwargs VARCHAR NOT NULL, -- JSON list, one object of arguments for each instruction id
    PRIMARY KEY (prompt_id, round, split)
);

-- A text that a model sampled, with the weights, settings and tokens that made it.
CREATE TABLE candidates (
    candidate_id VARCHAR NOT NULL, -- unique; content hash of everything that decides the text
    prompt_id VARCHAR NOT NULL, -- the instruction answered
    round INTEGER NOT NULL, -- round whose stage made it (train: by M_t-1, held_out: by M_t)
    split VARCHAR NOT NULL CHECK (split IN ('train', 'held_out')), -- split of its prompt
    sample_idx INTEGER NOT NULL, -- 0 .. N-1 within the prompt; -1: a demonstration, see origin
    weights_hash VARCHAR NOT NULL, -- weights that made it; empty for a demonstration, served:NAME for a server's
    engine VARCHAR NOT NULL, -- registered name of the engine that sampled it; demonstration: nobody did
    temperature DOUBLE NOT NULL, -- 0 is greedy
    top_p DOUBLE NOT NULL, -- 1 is off
    top_k INTEGER NOT NULL, -- 0 is off
    max_tokens INTEGER NOT NULL, -- limit on n_tokens
    seed BIGINT NOT NULL, -- hash of run seed, round, prompt and sample
    text VARCHAR NOT NULL, -- the completion, verbatim
    token_ids INTEGER[] NOT NULL, -- tokens as sampled, without the end token
    n_tokens INTEGER NOT NULL, -- length of token_ids
    n_prompt_tokens INTEGER NOT NULL, -- length of the templated prompt in tokens
    finish_reason VARCHAR NOT NULL CHECK (finish_reason IN ('stop', 'length')), -- length: cut at max_tokens
    end_token_id INTEGER, -- the end token that was sampled; NULL where cut
    logprob DOUBLE NOT NULL -- summed log-probability in nats under the untempered policy
);

-- A judge's vote on a candidate, with its outcome and what it said verbatim.
CREATE TABLE judgements (
    judgement_id VARCHAR NOT NULL, -- unique; content hash of candidate, judge, weights and sample
    candidate_id VARCHAR NOT NULL, -- what was judged
    round INTEGER NOT NULL, -- round whose stage judged it
    judge VARCHAR NOT NULL, -- name of the judge
    judge_hash VARCHAR NOT NULL, -- hash of rubric text, parameters and members
    weights_hash VARCHAR, -- weights that judged; NULL for judges without a model
    sample_idx INTEGER NOT NULL, -- 0 .. votes-1
    score DOUBLE, -- NULL unless outcome is ok: a failed vote is never a zero
    outcome VARCHAR NOT NULL
        CHECK (outcome IN ('ok', 'parse_error', 'out_of_range', 'truncated', 'refused', 'tie', 'disagree')), -- only ok may become a label
    raw VARCHAR NOT NULL, -- what the judge said, verbatim
    seed BIGINT, -- seed of the vote; NULL for deterministic judges
    detail VARCHAR NOT NULL, -- JSON object, e.g. order shown or members' scores
    CHECK (score IS NULL OR outcome = 'ok')
);

-- What a resampler did with a candidate.
CREATE TABLE selections (
    selection_id VARCHAR PRIMARY KEY, -- content hash of resampler and candidate
    round INTEGER NOT NULL, -- round that resampled
    prompt_id VARCHAR NOT NULL, -- prompt of the candidate
    candidate_id VARCHAR NOT NULL, -- candidate that was looked at
    resampler VARCHAR NOT NULL, -- registered name of the resampler
    accepted BOOLEAN NOT NULL, -- whether it goes on to pairing
    accept_order INTEGER, -- 0, 1, ... in order of acceptance; NULL where refused
    score DOUBLE, -- reward used for the decision
    detail VARCHAR NOT NULL -- JSON object, e.g. acceptance probability
);

-- A preference pair: chosen and rejected candidate, scores and margin.
CREATE TABLE pairs (
    pair_id VARCHAR PRIMARY KEY, -- content hash of both candidates, judge and builder
    prompt_id VARCHAR NOT NULL, -- prompt of both candidates
    round INTEGER NOT NULL, -- round that trains on the pair
    chosen_id VARCHAR NOT NULL, -- the better candidate
    rejected_id VARCHAR NOT NULL, -- the worse candidate
    chosen_score DOUBLE NOT NULL, -- mean of the judge's valid votes, or the builder's figure (event pair_score)
    rejected_score DOUBLE NOT NULL, -- mean of the judge's valid votes, or the builder's figure (event pair_score)
    margin DOUBLE NOT NULL, -- chosen_score - rejected_score, or what an event pair_strength says
    judge VARCHAR NOT NULL, -- name of the judge that decided; demonstration, contrast, agreement: where none did
    builder VARCHAR NOT NULL, -- registered name of the pair builder
    n_votes INTEGER NOT NULL, -- valid votes behind the two scores
    weight DOUBLE NOT NULL -- weight in the loss, 1 unless a method says otherwise
);

-- A candidate labelled desirable or not.
CREATE TABLE unary_labels (
    label_id VARCHAR PRIMARY KEY, -- content hash of candidate, label and builder
    prompt_id VARCHAR NOT NULL, -- prompt of the candidate
    round INTEGER NOT NULL, -- round that trains on the label
    candidate_id VARCHAR NOT NULL, -- candidate that is labelled
    label BOOLEAN NOT NULL, -- true: desirable
    score DOUBLE NOT NULL, -- mean of the judge's valid votes
    builder VARCHAR NOT NULL, -- registered name of the builder
    weight DOUBLE NOT NULL -- weight in the loss
);

-- Weights that a round's training made: folder, hash, settings, final figures.
CREATE TABLE checkpoints (
    checkpoint_id VARCHAR NOT NULL, -- content hash of the weights and tokenizer
    round INTEGER NOT NULL, -- t of the M_t that it is
    parent_id VARCHAR, -- what it was trained from; NULL for M0
    weights_hash VARCHAR NOT NULL, -- content hash of the weights
    path VARCHAR NOT NULL, -- folder, relative to the workspace where the run owns it
    trainer VARCHAR NOT NULL, -- registered name of the trainer
    method VARCHAR NOT NULL, -- full, lora ...
    reference_hash VARCHAR, -- weights of the frozen reference; NULL where the loss needs none
    n_examples INTEGER NOT NULL, -- examples trained on
    n_bytes BIGINT NOT NULL, -- size of the folder
    config VARCHAR NOT NULL, -- the trainer's settings as JSON
    metrics VARCHAR NOT NULL, -- final figures of the training as JSON
    created_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'), -- when it was recorded
    PRIMARY KEY (round, checkpoint_id) -- the same weights may be M_t of two rounds
);

-- A figure of M_t with its interval, one row a metric and split.
CREATE TABLE evaluations (
    run VARCHAR NOT NULL, -- run that measured it
    round INTEGER NOT NULL, -- t of the M_t that was measured
    metric VARCHAR NOT NULL, -- snake_case name, e.g. pass_rate_strict
    split VARCHAR NOT NULL, -- rows it was measured on: held_out, train, gold ...
    value DOUBLE, -- NULL where it could not be measured
    low DOUBLE, -- lower end of the 95 % interval, where there is one
    high DOUBLE, -- upper end of the 95 % interval, where there is one
    n INTEGER NOT NULL, -- items behind the figure
    detail VARCHAR NOT NULL, -- JSON object
    PRIMARY KEY (run, round, metric, split)
);

-- Something worth knowing: why a prompt has no pair, a back-off, a guard.
CREATE TABLE events (
    event_id VARCHAR PRIMARY KEY, -- content hash of what happened
    round INTEGER, -- round, if it belongs to one
    stage VARCHAR, -- stage, if it belongs to one
    kind VARCHAR NOT NULL, -- no_pair, pair_strength, pair_score, back_off, guard, decision ...
    subject_id VARCHAR, -- row that it is about, if any
    message VARCHAR NOT NULL, -- for kind no_pair the reason
    detail VARCHAR NOT NULL, -- JSON object
    created_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'UTC') -- when it was recorded
);

INSERT INTO schema_version (version) VALUES (1);
