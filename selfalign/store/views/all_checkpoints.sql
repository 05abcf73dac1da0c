-- Checkpoints of the run and of all its branches; branch is NULL for the run as it stands.
CREATE OR REPLACE VIEW all_checkpoints AS
SELECT NULL::VARCHAR AS branch, * FROM checkpoints
UNION ALL BY NAME
SELECT * EXCLUDE (of_stage) FROM archived_checkpoints;
