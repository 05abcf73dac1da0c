-- What a round that teaches the judge trains on: prompts of the judge with the verdicts that are right.
CREATE TABLE lessons (
    lesson_id VARCHAR PRIMARY KEY, -- content hash of round, kind, judge, messages, answer and subject
    round INTEGER NOT NULL, -- round that trains on it
    kind VARCHAR NOT NULL CHECK (kind IN ('judge', 'instruction')), -- a verdict, or an answer to an instruction
    source VARCHAR NOT NULL, -- how the verdict is known: gold (the gold set) or verified (checked constraints)
    subject_id VARCHAR NOT NULL, -- key of the gold item, or candidate_id
    judge VARCHAR NOT NULL, -- judge that asks; empty for instructions
    judge_hash VARCHAR NOT NULL, -- its identity; empty for instructions
    messages VARCHAR NOT NULL, -- what the model is shown, as JSON
    answer_prefix VARCHAR NOT NULL, -- what its answer is begun with
    answer VARCHAR NOT NULL, -- what it should answer
    ends BOOLEAN NOT NULL, -- whether it should end there
    weight DOUBLE NOT NULL, -- of the example in the loss
    digest VARCHAR
);

CREATE TABLE archived_lessons AS SELECT NULL::VARCHAR AS branch, NULL::VARCHAR AS of_stage, * FROM lessons LIMIT 0;
