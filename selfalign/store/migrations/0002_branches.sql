-- Rows that a change of config or a step back took out of the run. They keep their ids and are never
-- deleted by a run; `selfalign gc` may. Same columns as the table of the same name, after the branch they belong
-- to and the stage that made them.
CREATE TABLE branches (
    branch VARCHAR PRIMARY KEY, -- name, as `selfalign branches` shows it
    created_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'), -- when the rows were set aside
    from_round INTEGER NOT NULL, -- earliest round with a stage in it
    from_stage VARCHAR NOT NULL, -- earliest stage of that round in it
    reason VARCHAR NOT NULL CHECK (reason IN ('config', 'resume', 'rollback', 'fork')), -- what set them aside
    detail VARCHAR NOT NULL, -- what changed, in words
    config VARCHAR NOT NULL -- the config that made them, as JSON
);

CREATE TABLE archived_rounds AS SELECT NULL::VARCHAR AS branch, NULL::VARCHAR AS of_stage, * FROM rounds LIMIT 0;
CREATE TABLE archived_stages AS SELECT NULL::VARCHAR AS branch, NULL::VARCHAR AS of_stage, * FROM stages LIMIT 0;
CREATE TABLE archived_prompts AS SELECT NULL::VARCHAR AS branch, NULL::VARCHAR AS of_stage, * FROM prompts LIMIT 0;
CREATE TABLE archived_candidates AS SELECT NULL::VARCHAR AS branch, NULL::VARCHAR AS of_stage, * FROM candidates LIMIT 0;
CREATE TABLE archived_judgements AS SELECT NULL::VARCHAR AS branch, NULL::VARCHAR AS of_stage, * FROM judgements LIMIT 0;
CREATE TABLE archived_selections AS SELECT NULL::VARCHAR AS branch, NULL::VARCHAR AS of_stage, * FROM selections LIMIT 0;
CREATE TABLE archived_pairs AS SELECT NULL::VARCHAR AS branch, NULL::VARCHAR AS of_stage, * FROM pairs LIMIT 0;
CREATE TABLE archived_unary_labels AS SELECT NULL::VARCHAR AS branch, NULL::VARCHAR AS of_stage, * FROM unary_labels LIMIT 0;
CREATE TABLE archived_checkpoints AS SELECT NULL::VARCHAR AS branch, NULL::VARCHAR AS of_stage, * FROM checkpoints LIMIT 0;
CREATE TABLE archived_evaluations AS SELECT NULL::VARCHAR AS branch, NULL::VARCHAR AS of_stage, * FROM evaluations LIMIT 0;
CREATE TABLE archived_events AS SELECT NULL::VARCHAR AS branch, NULL::VARCHAR AS of_stage, * FROM events LIMIT 0;

-- Of a fork: JSON with the run, workspace and round it was forked from; NULL otherwise.
ALTER TABLE runs ADD COLUMN origin VARCHAR;
ALTER TABLE rounds ADD COLUMN tokenizer_hash VARCHAR;
-- true: made under another config and kept on purpose (a fork's inherited rounds, `--on-change keep`).
ALTER TABLE rounds ADD COLUMN frozen BOOLEAN DEFAULT false;
ALTER TABLE archived_rounds ADD COLUMN tokenizer_hash VARCHAR;
ALTER TABLE archived_rounds ADD COLUMN frozen BOOLEAN DEFAULT false;
