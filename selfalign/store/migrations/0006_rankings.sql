-- Candidates of a prompt in order of their scores, for trainers whose loss takes a whole list.
CREATE TABLE rankings (
    ranking_id VARCHAR PRIMARY KEY, -- content hash of candidates, scores, judge and builder
    prompt_id VARCHAR NOT NULL, -- prompt of all of them
    round INTEGER NOT NULL, -- round that trains on it
    candidate_ids VARCHAR[] NOT NULL, -- best first
    scores DOUBLE[] NOT NULL, -- score of each, in that order
    judge VARCHAR NOT NULL, -- judge that scored
    builder VARCHAR NOT NULL, -- registered name of the builder
    weight DOUBLE NOT NULL, -- weight in the loss
    digest VARCHAR -- as in the other tables
);
CREATE TABLE archived_rankings AS SELECT NULL::VARCHAR AS branch, NULL::VARCHAR AS of_stage, * FROM rankings LIMIT 0;
