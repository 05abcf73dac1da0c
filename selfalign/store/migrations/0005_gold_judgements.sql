-- One vote of a judge on an answer of the gold set: how the judge is measured. Nothing trains on these rows.
CREATE TABLE gold_judgements (
    judgement_id VARCHAR PRIMARY KEY, -- content hash of answer, judge, weights, sample and round
    gold_key VARCHAR NOT NULL, -- key of the gold item
    split VARCHAR NOT NULL CHECK (split IN ('teach', 'calibrate', 'test')), -- split of the gold item
    candidate_id VARCHAR NOT NULL, -- which of its two answers: content hash
    round INTEGER NOT NULL, -- t of the M_t that judged
    judge VARCHAR NOT NULL, -- registered name of the judge
    judge_hash VARCHAR NOT NULL, -- hash of everything but weights that the judgement depends on
    weights_hash VARCHAR, -- weights that judged; NULL for judges without a model
    sample_idx INTEGER NOT NULL, -- 0 .. votes-1
    score DOUBLE, -- NULL unless outcome is ok
    outcome VARCHAR NOT NULL
        CHECK (outcome IN ('ok', 'parse_error', 'out_of_range', 'truncated', 'refused', 'tie', 'disagree')),
    raw VARCHAR NOT NULL, -- what the judge said, verbatim
    seed BIGINT, -- seed of the vote; NULL for deterministic judges
    detail VARCHAR NOT NULL, -- JSON object
    digest VARCHAR, -- as in the other tables
    CHECK (score IS NULL OR outcome = 'ok')
);
CREATE TABLE archived_gold_judgements AS SELECT NULL::VARCHAR AS branch, NULL::VARCHAR AS of_stage, * FROM gold_judgements LIMIT 0;
