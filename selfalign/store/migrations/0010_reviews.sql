-- What people said of pairs, taken in from the workspace's reviews.jsonl. The pair itself stays as the judge made it.
-- Of no stage and so of no branch: a pair that is made again has the same id, and what was said of it still holds.
CREATE TABLE reviews (
    review_id VARCHAR PRIMARY KEY, -- content hash of the other columns
    pair_id VARCHAR NOT NULL, -- the pair that was read
    round INTEGER NOT NULL, -- round that made the pair
    decision VARCHAR NOT NULL CHECK (decision IN ('accept', 'flip', 'reject', 'withdraw')), -- of several on a pair the last holds
    note VARCHAR NOT NULL, -- why, in the reviewer's words; may be empty
    reviewer VARCHAR NOT NULL, -- who said so
    reviewed_at VARCHAR NOT NULL, -- when: ISO 8601, UTC, microseconds
    digest VARCHAR -- as in the other tables
);

-- What a round's training did otherwise than its pairs say, because of a review; settled when the training begins.
CREATE TABLE overrides (
    override_id VARCHAR PRIMARY KEY, -- content hash of round, pair, decision and review
    round INTEGER NOT NULL, -- round that trained
    from_round INTEGER NOT NULL, -- round that made the pair: the same, or an earlier one (policy.data)
    pair_id VARCHAR NOT NULL, -- the pair
    decision VARCHAR NOT NULL CHECK (decision IN ('flip', 'reject')), -- flip: sides exchanged; reject: not trained on
    review_id VARCHAR NOT NULL, -- the review that said so
    digest VARCHAR -- as in the other tables
);
CREATE TABLE archived_overrides AS SELECT NULL::VARCHAR AS branch, NULL::VARCHAR AS of_stage, * FROM overrides LIMIT 0;
