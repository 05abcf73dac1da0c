-- One verdict of the meta-judge: which of two judgements of a candidate is the better one, in one order.
CREATE TABLE meta_judgements (
    meta_id VARCHAR PRIMARY KEY, -- content hash of both judgements in order, meta-judge and weights
    round INTEGER NOT NULL, -- round whose judgements are compared
    candidate_id VARCHAR NOT NULL, -- what both judgements are about
    judge VARCHAR NOT NULL, -- name of the judge that wrote them
    judge_hash VARCHAR NOT NULL, -- its identity
    first_id VARCHAR NOT NULL, -- judgement shown first
    second_id VARCHAR NOT NULL, -- judgement shown second
    meta_hash VARCHAR NOT NULL, -- hash of the meta-judge's prompt and settings
    weights_hash VARCHAR NOT NULL, -- weights that compared
    winner VARCHAR CHECK (winner IN ('first', 'second')), -- NULL unless outcome is ok
    p_first DOUBLE, -- probability that first is better, 1 or 0 where a verdict was written; NULL unless outcome is ok
    outcome VARCHAR NOT NULL
        CHECK (outcome IN ('ok', 'parse_error', 'out_of_range', 'truncated', 'refused', 'tie', 'disagree')),
    raw VARCHAR NOT NULL, -- what the meta-judge said, verbatim; empty where it was read from logits
    seed BIGINT, -- seed of its answer; NULL where it was read from logits
    detail VARCHAR NOT NULL, -- JSON object
    digest VARCHAR, -- as in the other tables
    CHECK ((winner IS NOT NULL) = (outcome = 'ok') AND (p_first IS NOT NULL) = (outcome = 'ok'))
);
CREATE TABLE archived_meta_judgements AS SELECT NULL::VARCHAR AS branch, NULL::VARCHAR AS of_stage, * FROM meta_judgements LIMIT 0;

-- A preference pair that trains the judge: two judgements of one candidate.
CREATE TABLE judgement_pairs (
    pair_id VARCHAR PRIMARY KEY, -- content hash of round, candidate and both judgements
    round INTEGER NOT NULL, -- round that trains on the pair
    candidate_id VARCHAR NOT NULL, -- what both judgements are about
    judge VARCHAR NOT NULL, -- name of the judge that wrote them
    judge_hash VARCHAR NOT NULL, -- its identity
    messages VARCHAR NOT NULL, -- what the judge was shown, as JSON
    chosen_id VARCHAR NOT NULL, -- the better judgement
    rejected_id VARCHAR NOT NULL, -- the worse judgement
    chosen_elo DOUBLE NOT NULL, -- in natural units; the mean over the candidate's judgements is 0
    rejected_elo DOUBLE NOT NULL, -- in natural units
    margin DOUBLE NOT NULL, -- chosen_elo - rejected_elo: log-odds that chosen wins
    n_verdicts INTEGER NOT NULL, -- verdicts among the candidate's judgements
    weight DOUBLE NOT NULL, -- weight in the loss
    digest VARCHAR -- as in the other tables
);
CREATE TABLE archived_judgement_pairs AS SELECT NULL::VARCHAR AS branch, NULL::VARCHAR AS of_stage, * FROM judgement_pairs LIMIT 0;
