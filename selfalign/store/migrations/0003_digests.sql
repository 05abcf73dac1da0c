-- SHA-256 (first 32 hex digits) of a row's other columns, written with the row: `selfalign verify` finds by it
-- a text that was changed afterwards. A column, so that it moves to branches and forks with its row, and adds 7 %
-- to a batch's insert; a table of its own added as much again. NULL: written before this, or by another program.
-- What is hashed, and how: selfalign/store/digests.py.
ALTER TABLE prompts ADD COLUMN digest VARCHAR;
ALTER TABLE candidates ADD COLUMN digest VARCHAR;
ALTER TABLE judgements ADD COLUMN digest VARCHAR;
ALTER TABLE selections ADD COLUMN digest VARCHAR;
ALTER TABLE pairs ADD COLUMN digest VARCHAR;
ALTER TABLE unary_labels ADD COLUMN digest VARCHAR;
ALTER TABLE checkpoints ADD COLUMN digest VARCHAR;
ALTER TABLE archived_prompts ADD COLUMN digest VARCHAR;
ALTER TABLE archived_candidates ADD COLUMN digest VARCHAR;
ALTER TABLE archived_judgements ADD COLUMN digest VARCHAR;
ALTER TABLE archived_selections ADD COLUMN digest VARCHAR;
ALTER TABLE archived_pairs ADD COLUMN digest VARCHAR;
ALTER TABLE archived_unary_labels ADD COLUMN digest VARCHAR;
ALTER TABLE archived_checkpoints ADD COLUMN digest VARCHAR;
